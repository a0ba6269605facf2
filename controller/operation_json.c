/* SPDX-License-Identifier: Apache-2.0 */
/* Operations as callers of the API see them (docs/api.md). */
#include "controller/operations.h"

#include "base/cleanup.h"
#include "wire/text.h"

static json_t *base_json(const char *id, enum effect_kind kind, const char *user,
			 const char *server, const char *who, const char *why)
{
	return json_pack("{s:s, s:s, s:o, s:o, s:o, s:o}", "id", id, "kind",
			 effect_kind_names[kind], "user", wire_text(user), "server",
			 wire_text(server), "who", wire_text(who ? who : ""), "why",
			 wire_text(why ? why : ""));
}

static void add_progress(json_t *to, const char *state, const char *step, int64_t done,
			 int64_t total)
{
	json_object_set_new(to, "state", json_string(state));
	json_object_set_new(to, "step", step ? wire_text(step) : json_null());
	json_object_set_new(to, "bytes_done", json_integer(done));
	json_object_set_new(to, "bytes_total", json_integer(total));
}

void operation_add_error(json_t *to, const struct error *error, const char *log_tail)
{
	json_t *wrapped = wire_encode_error(error);
	json_object_set_new(to, "state", json_string("failed"));
	json_t *inner = json_object_get(wrapped, "error");
	json_object_set_new(inner, "log_tail", log_tail ? wire_text(log_tail) : json_null());
	json_object_set(to, "log_tail", json_object_get(inner, "log_tail"));
	json_object_set(to, "error", inner);
	json_object_set_new(to, "result", json_null());
	json_decref(wrapped);
}

void operation_add_result(json_t *to, const char *step, const struct effect_result *result)
{
	json_t *timings = json_array();
	add_progress(to, "done", step, result->bytes_done, result->bytes_total);
	for (size_t i = 0; i < result->timing_count; i++)
		json_array_append_new(timings, json_pack("{s:o, s:I}", "name",
							 wire_text(result->timings[i].name), "us",
							 (json_int_t)result->timings[i].us));
	json_object_set_new(to, "error", json_null());
	json_object_set_new(to, "result",
			    json_pack("{s:I, s:I, s:I, s:I, s:o}", "duration_us",
				      (json_int_t)result->duration_us, "frozen_us",
				      (json_int_t)result->frozen_us, "stored_bytes",
				      (json_int_t)result->stored_bytes, "memory_bytes",
				      (json_int_t)result->memory_bytes, "timings", timings));
}

json_t *operation_already_json(const struct session *s, enum effect_kind kind, const char *who,
			       const char *why)
{
	char id[ID_SIZE];
	const struct effect_result nothing = { 0 };
	id_new(id);
	json_t *shown = base_json(id, kind, s->row.user, s->row.server, who, why);
	operation_add_result(shown, "already", &nothing);
	return shown;
}

static void result_error(const struct effect_result *result, struct error *e)
{
	*e = ERROR_INIT;
	error_fault(e, fault_from_name(result->fault), "%s",
		    result->text ? result->text : "the node gave no reason");
	if (result->remedy)
		error_remedy(e, 0, "%s", result->remedy);
}

char *operation_outcome(const struct session *s, enum effect_kind kind,
			const struct db_effect *effect, const struct effect_result *result)
{
	bool failed = result->state == EFFECT_FAILED;
	/* A fence may have been asked more than once, under other ids. */
	const char *id =
		s->operation && operation_running(s->operation) ? s->operation->id : effect->id;
	cleanup_json json_t *outcome =
		base_json(id, kind, s->row.user, s->row.server, effect->who, effect->why);
	if (!outcome)
		return NULL;
	if (failed) {
		struct error e;
		result_error(result, &e);
		add_progress(outcome, "failed", result->step, result->bytes_done,
			     result->bytes_total);
		operation_add_error(outcome, &e, result->log_tail);
	} else {
		operation_add_result(outcome, result->step, result);
	}
	return json_dumps(outcome, JSON_COMPACT);
}

json_t *operation_json(const struct operation *op)
{
	if (op->outcome)
		return json_deep_copy(op->outcome);
	json_t *shown = base_json(op->id, op->kind, op->user, op->server, op->who, op->why);
	add_progress(shown, "running", op->step, op->bytes_done, op->bytes_total);
	json_object_set_new(shown, "error", json_null());
	json_object_set_new(shown, "result", json_null());
	return shown;
}
