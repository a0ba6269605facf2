/* SPDX-License-Identifier: Apache-2.0 */
#include "node/doctor.h"
#include "node/doze_area.h"
#include "node/doze_pressure.h"

#include <string.h>

static const char *describe(const char *swap)
{
	if (strcmp(swap, "zram") == 0)
		return "sessions that doze go to compressed memory (zram)";
	if (strcmp(swap, "file") == 0)
		return "sessions that doze go to a file under dm-crypt";
	return "sessions that doze go to this machine's own swap: it should be encrypted";
}

static void check_area(struct doctor *d)
{
	struct error e = ERROR_INIT;
	const char *swap = d->config->doze.swap;
	if (strcmp(swap, "off") == 0) {
		doctor_add(d, "doze", DOCTOR_ADVISED, true,
			   "sessions do not doze here (doze.swap)");
		return;
	}
	int r = doze_area_check(d->config, &e);
	doctor_add_result(d, "doze", DOCTOR_ADVISED, r, &e, describe(swap));
}

static void check_pressure(struct doctor *d)
{
	struct pressure now;
	bool ok = pressure_read(&now);
	struct doctor_check *c =
		doctor_add(d, "pressure", DOCTOR_ADVISED, ok, "%s",
			   ok ? "the kernel tells how much work waits for memory (PSI)"
			      : "the kernel does not tell how much work waits for memory (PSI): "
				"sessions doze and sleep by time alone");
	doctor_remedy(c, "boot with psi=1 on the kernel's command line");
}

void doctor_check_doze(struct doctor *d)
{
	check_area(d);
	check_pressure(d);
}
