/* SPDX-License-Identifier: Apache-2.0 */
extern "C" {
#include "config/toml.h"
}

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <new>
#include <string>
#include <string_view>
#include <toml++/toml.h>

namespace
{

/* Nothing below may leave this file as an exception: the callers are C. */

toml_position position_of(const toml::source_region &source)
{
	return { static_cast<int>(source.begin.line), static_cast<int>(source.begin.column) };
}

char *copy(std::string_view text)
{
	char *to = static_cast<char *>(std::malloc(text.size() + 1));
	if (!to)
		throw std::bad_alloc();
	std::memcpy(to, text.data(), text.size());
	to[text.size()] = '\0';
	return to;
}

struct nul_in_string {
	toml_position at;
};

/* C would silently read such a string only up to its NUL. */
char *copy_checked(std::string_view text, toml_position at)
{
	if (text.find('\0') != std::string_view::npos)
		throw nul_in_string { at };
	return copy(text);
}

toml_node *make_children(toml_node &to, size_t count)
{
	if (count == 0)
		return nullptr;
	to.children = static_cast<toml_node *>(std::calloc(count, sizeof(toml_node)));
	if (!to.children)
		throw std::bad_alloc();
	to.count = count;
	return to.children;
}

void convert(const toml::node &from, toml_node &to);

bool comes_before(const toml_node &a, const toml_node &b)
{
	if (a.key_at.line != b.key_at.line)
		return a.key_at.line < b.key_at.line;
	return a.key_at.column < b.key_at.column;
}

void convert_table(const toml::table &from, toml_node &to)
{
	toml_node *child = make_children(to, from.size());
	for (auto &&[key, value] : from) {
		child->key_at = position_of(key.source());
		child->key = copy_checked(key.str(), child->key_at);
		convert(value, *child++);
	}
	std::sort(to.children, to.children + to.count, comes_before);
}

void convert(const toml::node &from, toml_node &to)
{
	to.at = position_of(from.source());
	if (const auto *table = from.as_table()) {
		to.type = TOML_TABLE;
		convert_table(*table, to);
	} else if (const auto *array = from.as_array()) {
		to.type = TOML_ARRAY;
		toml_node *child = make_children(to, array->size());
		for (auto &&item : *array)
			/* NOLINTNEXTLINE(clang-analyzer-core.NonNullParamChecker): not empty */
			convert(item, *child++);
	} else if (const auto *text = from.as_string()) {
		to.type = TOML_STRING;
		to.text = copy_checked(text->get(), to.at);
	} else if (const auto *integer = from.as_integer()) {
		to.type = TOML_INTEGER;
		to.integer = integer->get();
		to.number = static_cast<double>(to.integer);
	} else if (const auto *number = from.as_floating_point()) {
		to.type = TOML_FLOAT;
		to.number = number->get();
	} else if (const auto *boolean = from.as_boolean()) {
		to.type = TOML_BOOLEAN;
		to.boolean = boolean->get();
	} else {
		to.type = TOML_TIME;
	}
}

int fail_at(error *e, const char *name, toml_position at, std::string_view text)
{
	return error_set(e, EINVAL, "%s:%d:%d: %.*s", name, at.line, at.column,
			 static_cast<int>(text.size()), text.data());
}

void deinit(toml_node &node)
{
	for (size_t i = 0; i < node.count; i++)
		deinit(node.children[i]);
	std::free(node.children);
	std::free(node.text);
	std::free(node.key);
}

} // namespace

int toml_parse(const char *text, size_t len, const char *name, toml_node **root, error *e)
{
	auto *tree = static_cast<toml_node *>(std::calloc(1, sizeof(toml_node)));
	int r;
	try {
		if (!tree)
			throw std::bad_alloc();
		convert(toml::parse(std::string_view(text, len)), *tree);
		*root = tree;
		return 0;
	} catch (const toml::parse_error &failure) {
		r = fail_at(e, name, position_of(failure.source()), failure.description());
	} catch (const nul_in_string &failure) {
		r = fail_at(e, name, failure.at, "a NUL character is not allowed");
	} catch (const std::bad_alloc &) {
		r = error_set(e, ENOMEM, "out of memory while reading %s", name);
	} catch (const std::exception &failure) {
		r = error_set(e, EINVAL, "%s: %s", name, failure.what());
	}
	toml_free(tree);
	return r;
}

void *toml_free(toml_node *root)
{
	if (root)
		deinit(*root);
	std::free(root);
	return nullptr;
}

const char *toml_type_name(toml_type type)
{
	static const char *const names[] = {
		"a table",  "a list",        "a string", "an integer",
		"a number", "true or false", "a time",
	};
	return names[type];
}
