# SPDX-License-Identifier: Apache-2.0
# What `cmake --install` puts where, and the Debian packages `make package` makes of it. Components are
# packages: elsa, and spawner for python3-elsa-spawner.

set(packaging ${CMAKE_CURRENT_LIST_DIR})

# --- elsa ----------------------------------------------------------------------------------------

# The units name programs by their place, which is known only when they are installed.
install(CODE "
	foreach(unit elsad elsa-node)
		file(READ \"${packaging}/systemd/\${unit}.service\" text)
		string(REPLACE \"/usr/sbin/\" \"\${CMAKE_INSTALL_PREFIX}/${CMAKE_INSTALL_SBINDIR}/\"
			text \"\${text}\")
		file(WRITE \"${CMAKE_BINARY_DIR}/packaging/\${unit}.service\" \"\${text}\")
	endforeach()" COMPONENT elsa)
install(FILES ${CMAKE_BINARY_DIR}/packaging/elsad.service
	${CMAKE_BINARY_DIR}/packaging/elsa-node.service DESTINATION lib/systemd/system)
install(FILES ${packaging}/systemd/sysusers.conf DESTINATION lib/sysusers.d RENAME elsa.conf)
install(FILES ${packaging}/systemd/logind.conf DESTINATION lib/systemd/logind.conf.d
	RENAME elsa.conf)
install(FILES ${packaging}/man/elsa.1 DESTINATION share/man/man1)
install(FILES ${packaging}/man/elsa.toml.5 DESTINATION share/man/man5)
install(FILES ${packaging}/man/elsad.8 ${packaging}/man/elsa-node.8 DESTINATION share/man/man8)
install(FILES ${packaging}/completion/elsa DESTINATION share/bash-completion/completions)
install(FILES config.example.toml README.md DESTINATION share/doc/elsa)
install(DIRECTORY ${packaging}/aws ${packaging}/gcp ${packaging}/prices DESTINATION share/elsa)
install(PROGRAMS ${packaging}/cloud/render DESTINATION share/elsa/cloud)
install(DIRECTORY docs/ DESTINATION share/doc/elsa FILES_MATCHING PATTERN "*.md" PATTERN "*.svg")
install(FILES ${packaging}/debian/copyright DESTINATION share/doc/elsa)

# Somebody's own settings are not overwritten; in a package dpkg sees to that.
install(CODE "
	if(NOT EXISTS \"\$ENV{DESTDIR}/etc/elsa/elsa.toml\")
		file(INSTALL \"${CMAKE_SOURCE_DIR}/config.example.toml\" DESTINATION /etc/elsa
			RENAME elsa.toml)
	endif()" COMPONENT elsa)

# --- python3-elsa-spawner ------------------------------------------------------------------------
# Where only Debian's own Python looks, hence not part of a plain install: there pip does this.

set(python usr/lib/python3/dist-packages)
file(STRINGS spawner/pyproject.toml version REGEX "^version = ")
string(REGEX REPLACE ".*\"(.*)\"" "\\1" version "${version}")
set(dist_info ${CMAKE_BINARY_DIR}/packaging/elsa_spawner-${version}.dist-info)
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS spawner/pyproject.toml)
find_package(Python3 REQUIRED COMPONENTS Interpreter)
execute_process(COMMAND ${Python3_EXECUTABLE} ${packaging}/dist_info.py
	${CMAKE_SOURCE_DIR}/spawner/pyproject.toml ${dist_info} COMMAND_ERROR_IS_FATAL ANY)

install(DIRECTORY spawner/elsa_spawner ${dist_info} DESTINATION /${python} COMPONENT spawner
	EXCLUDE_FROM_ALL PATTERN "__pycache__" EXCLUDE)
install(FILES spawner/elsa_spawner.json DESTINATION /etc/jupyter/jupyter_server_config.d
	COMPONENT spawner EXCLUDE_FROM_ALL)
install(FILES ${packaging}/debian/copyright DESTINATION /usr/share/doc/python3-elsa-spawner
	COMPONENT spawner EXCLUDE_FROM_ALL)

# --- the packages --------------------------------------------------------------------------------

set(CPACK_GENERATOR DEB)
set(CPACK_DEB_COMPONENT_INSTALL ON)
set(CPACK_COMPONENTS_ALL elsa spawner)
set(CPACK_COMPONENTS_GROUPING IGNORE)
set(CPACK_SET_DESTDIR ON) # /etc beside /usr
set(CPACK_INSTALL_PREFIX /usr)
set(CPACK_INSTALL_DEFAULT_DIRECTORY_PERMISSIONS OWNER_READ OWNER_WRITE OWNER_EXECUTE
	GROUP_READ GROUP_EXECUTE WORLD_READ WORLD_EXECUTE)
set(CPACK_STRIP_FILES ON)
set(CPACK_PACKAGE_VERSION ${PROJECT_VERSION})
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "") # each package has its own
set(CPACK_PACKAGE_CONTACT "Elsa maintainers <elsa@localhost>")
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_CONTROL_STRICT_PERMISSION ON)

set(CPACK_DEBIAN_ELSA_PACKAGE_NAME elsa)
set(CPACK_DEBIAN_ELSA_PACKAGE_SECTION admin)
set(CPACK_DEBIAN_ELSA_DESCRIPTION "checkpoint and restore of JupyterHub sessions
Puts the sessions of a JupyterHub that nobody uses to sleep with CRIU: whole
process trees, with every variable, thread, open file and token. The next
login wakes them where they were.

This package has the daemons elsad and elsa-node and the command line elsa.
Nothing is started before it is configured: see operations.md in
/usr/share/doc/elsa.")
set(CPACK_DEBIAN_ELSA_PACKAGE_SHLIBDEPS ON)
# 4.1 restores what these kernels run; from Linux 6.16 on it takes 4.2, which `elsa doctor` says.
set(CPACK_DEBIAN_ELSA_PACKAGE_DEPENDS "criu (>= 4.1), iproute2, nftables, tar, \
systemd | systemd-standalone-sysusers")
set(CPACK_DEBIAN_ELSA_PACKAGE_SUGGESTS "python3-elsa-spawner, cryptsetup-bin")
set(CPACK_DEBIAN_ELSA_PACKAGE_CONTROL_EXTRA ${packaging}/debian/elsa/conffiles
	${packaging}/debian/elsa/postinst ${packaging}/debian/elsa/prerm
	${packaging}/debian/elsa/postrm)

set(CPACK_DEBIAN_SPAWNER_PACKAGE_NAME python3-elsa-spawner)
set(CPACK_DEBIAN_SPAWNER_PACKAGE_SECTION python)
set(CPACK_DEBIAN_SPAWNER_PACKAGE_ARCHITECTURE all)
set(CPACK_DEBIAN_SPAWNER_DESCRIPTION "JupyterHub spawner whose servers sleep and wake
Servers that stop are checkpointed by Elsa, servers that start are restored,
with everything as it was.

Goes onto the machine of the Hub, and into the image of the sessions, where a
small server extension tells when somebody was last at work. A Hub that is
not Debian's takes the same from pip.")
set(CPACK_DEBIAN_SPAWNER_PACKAGE_DEPENDS "python3 (>= 3.11), python3-aiohttp")
set(CPACK_DEBIAN_SPAWNER_PACKAGE_RECOMMENDS "jupyterhub (>= 4)")
set(CPACK_DEBIAN_SPAWNER_PACKAGE_SUGGESTS elsa)
set(CPACK_DEBIAN_SPAWNER_PACKAGE_CONTROL_EXTRA ${packaging}/debian/spawner/conffiles
	${packaging}/debian/spawner/postinst ${packaging}/debian/spawner/prerm)

include(CPack)
