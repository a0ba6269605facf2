/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/messages.h"

#include "base/cleanup.h"

const char *const effect_kind_names[EFFECT_KIND_COUNT] = {
	[EFFECT_NONE] = "none",           [EFFECT_START] = "start",
	[EFFECT_HIBERNATE] = "hibernate", [EFFECT_SNAPSHOT] = "snapshot",
	[EFFECT_RESTORE] = "restore",     [EFFECT_STOP] = "stop",
	[EFFECT_FORGET] = "forget",       [EFFECT_FENCE] = "fence",
	[EFFECT_MIGRATE] = "migrate",     [EFFECT_DEPART] = "depart",
	[EFFECT_RETURN] = "return",       [EFFECT_SLEEP] = "sleep",
	[EFFECT_ANSWER] = "answer",       [EFFECT_RELEASE] = "release",
	[EFFECT_DOZE] = "doze",           [EFFECT_ROUSE] = "rouse",
};

const char *const departure_state_names[DEPARTURE_STATE_COUNT] = {
	[DEPARTURE_GRANTED] = "granted", [DEPARTURE_UNDER_WAY] = "under-way",
	[DEPARTURE_GIVEN] = "given",     [DEPARTURE_OVER] = "over",
	[DEPARTURE_KEPT] = "kept",
};

const char *const notice_kind_names[NOTICE_KIND_COUNT] = {
	[NOTICE_NONE] = "none",     [NOTICE_EVICT] = "evict",   [NOTICE_REBALANCE] = "rebalance",
	[NOTICE_REBOOT] = "reboot", [NOTICE_FREEZE] = "freeze",
};

const char *const evacuee_state_names[EVACUEE_STATE_COUNT] = {
	[EVACUEE_WAITING] = "waiting", [EVACUEE_SAVING] = "saving", [EVACUEE_SAVED] = "saved",
	[EVACUEE_LEFT] = "left",       [EVACUEE_FAILED] = "failed", [EVACUEE_MOVING] = "moving",
	[EVACUEE_MOVED] = "moved",
};

const char *const store_task_kind_names[STORE_TASK_KIND_COUNT] = {
	[STORE_TASK_NONE] = "none",     [STORE_TASK_VERIFY] = "verify",
	[STORE_TASK_REMOVE] = "rm",     [STORE_TASK_GC] = "gc",
	[STORE_TASK_EXPORT] = "export", [STORE_TASK_IMPORT] = "import",
	[STORE_TASK_REKEY] = "rekey",
};

const char *const effect_state_names[EFFECT_STATE_COUNT] = {
	[EFFECT_RUNNING] = "running",
	[EFFECT_DONE] = "done",
	[EFFECT_FAILED] = "failed",
};

/* The offset of a member, refusing to compile (by comparing pointers) when it is not of the type
 * that the table is about to claim. */
#define AT(member_type, s, f)                                                                      \
	(offsetof(struct s, f) + 0 * sizeof((member_type *)0 == &((struct s *)0)->f))

#define STRING(s, f)  .name = #f, .type = WIRE_STRING, .offset = AT(char *, s, f)
#define STRINGS(s, f) .name = #f, .type = WIRE_STRINGS, .offset = AT(char **, s, f)
#define INT(s, f)     .name = #f, .type = WIRE_INT, .offset = AT(int64_t, s, f)
#define BOOL(s, f)    .name = #f, .type = WIRE_BOOL, .offset = AT(bool, s, f)
#define DOUBLE(s, f)  .name = #f, .type = WIRE_DOUBLE, .offset = AT(double, s, f)
#define ENUM(s, f, enum_type, table)                                                               \
	.name = #f, .type = WIRE_ENUM, .offset = AT(enum_type, s, f), .names = (table),            \
	.name_count = ARRAY_SIZE(table)
#define STRUCT(s, f, struct_type, of)                                                              \
	.name = #f, .type = WIRE_STRUCT, .offset = AT(struct_type, s, f), .nested = &(of)
#define LIST(s, json_name, f, item_type, counter, of)                                              \
	.name = (json_name), .type = WIRE_LIST,                                                    \
	.offset = AT(item_type *, s, f), /* NOLINT(bugprone-macro-parentheses) */                  \
		.count_offset = AT(size_t, s, counter), .nested = &(of)

#define RANGE(least, most) .min = (least), .max = (most)
#define NOT_NEGATIVE       RANGE(0, INT64_MAX)
#define ID_RANGE           RANGE(0, UINT32_MAX - 1) /* uid_t, gid_t; -1 has a meaning of its own */
#define REQUIRED           .required = true

/* Defines `wire_NAME` for `struct NAME` from the table `NAME_fields`. */
#define WIRE_STRUCT_OF(s)                                                                          \
	const struct wire_struct wire_##s = { .name = #s,                                          \
					      .size = sizeof(struct s),                            \
					      .fields = s##_fields,                                \
					      .field_count = ARRAY_SIZE(s##_fields) }

static const struct wire_field session_limits_fields[] = {
	{ INT(session_limits, memory_bytes), NOT_NEGATIVE },
	{ DOUBLE(session_limits, cpus), RANGE(0, 65536) },
	{ INT(session_limits, pids), NOT_NEGATIVE },
};
WIRE_STRUCT_OF(session_limits);

static const struct wire_field session_spec_fields[] = {
	{ STRING(session_spec, id), REQUIRED },
	{ STRING(session_spec, user), REQUIRED },
	{ STRING(session_spec, server), REQUIRED },
	{ STRING(session_spec, address), REQUIRED },
	{ INT(session_spec, port), RANGE(1, 65535), REQUIRED },
	{ INT(session_spec, uid), ID_RANGE, REQUIRED },
	{ INT(session_spec, gid), ID_RANGE, REQUIRED },
	{ STRING(session_spec, home), REQUIRED },
	{ STRING(session_spec, home_inside), REQUIRED },
	{ STRING(session_spec, image), REQUIRED },
	{ STRINGS(session_spec, cmd), REQUIRED },
	{ STRINGS(session_spec, env) },
	{ STRUCT(session_spec, limits, struct session_limits, wire_session_limits) },
};
WIRE_STRUCT_OF(session_spec);

static const struct wire_field effect_request_fields[] = {
	{ STRING(effect_request, id), REQUIRED },
	{ ENUM(effect_request, kind, enum effect_kind, effect_kind_names), REQUIRED },
	{ INT(effect_request, generation), NOT_NEGATIVE, REQUIRED },
	{ BOOL(effect_request, force) },
	{ STRING(effect_request, from) },
	{ STRING(effect_request, from_at) },
	{ STRUCT(effect_request, session, struct session_spec, wire_session_spec), REQUIRED },
};
WIRE_STRUCT_OF(effect_request);

static const struct wire_field step_timing_fields[] = {
	{ STRING(step_timing, name), REQUIRED },
	{ INT(step_timing, us), NOT_NEGATIVE, REQUIRED },
};
static WIRE_STRUCT_OF(step_timing);

static const struct wire_field effect_result_fields[] = {
	{ STRING(effect_result, id), REQUIRED },
	{ ENUM(effect_result, state, enum effect_state, effect_state_names), REQUIRED },
	{ STRING(effect_result, step) },
	{ INT(effect_result, bytes_done), NOT_NEGATIVE },
	{ INT(effect_result, bytes_total), NOT_NEGATIVE },
	{ STRING(effect_result, fault) },
	{ STRING(effect_result, text) },
	{ STRING(effect_result, remedy) },
	{ STRING(effect_result, log_tail) },
	{ BOOL(effect_result, running), REQUIRED },
	{ BOOL(effect_result, kept) },
	{ BOOL(effect_result, answering) },
	{ BOOL(effect_result, dozing) },
	{ INT(effect_result, generation), NOT_NEGATIVE },
	{ INT(effect_result, checkpoint), NOT_NEGATIVE },
	{ INT(effect_result, memory_bytes), NOT_NEGATIVE },
	{ INT(effect_result, stored_bytes), NOT_NEGATIVE },
	{ INT(effect_result, out_bytes), NOT_NEGATIVE },
	{ INT(effect_result, frozen_us), NOT_NEGATIVE },
	{ INT(effect_result, duration_us), NOT_NEGATIVE },
	{ LIST(effect_result, "timings", timings, struct step_timing, timing_count,
	       wire_step_timing) },
};
WIRE_STRUCT_OF(effect_result);

static const struct wire_field session_status_fields[] = {
	{ STRING(session_status, id), REQUIRED },
	{ BOOL(session_status, running), REQUIRED },
	{ BOOL(session_status, frozen) },
	{ INT(session_status, pid), RANGE(0, INT32_MAX) },
	{ INT(session_status, generation), NOT_NEGATIVE },
	{ INT(session_status, rss_bytes), NOT_NEGATIVE },
	{ INT(session_status, out_bytes), NOT_NEGATIVE },
	{ INT(session_status, memory_limit), NOT_NEGATIVE },
	{ INT(session_status, short_of), NOT_NEGATIVE },
	{ INT(session_status, cpu_us), NOT_NEGATIVE },
	{ INT(session_status, processes), NOT_NEGATIVE },
	{ BOOL(session_status, stalls_known) },
	{ INT(session_status, cpu_stall_us), NOT_NEGATIVE },
	{ INT(session_status, memory_stall_us), NOT_NEGATIVE },
	{ INT(session_status, io_stall_us), NOT_NEGATIVE },
	{ INT(session_status, started_at), NOT_NEGATIVE },
	{ STRING(session_status, effect) },
	{ STRING(session_status, ended) },
	{ BOOL(session_status, held) },
	{ BOOL(session_status, dozing) },
	{ BOOL(session_status, answering) },
	{ INT(session_status, touched_at), NOT_NEGATIVE },
	{ STRING(session_status, unwoken) },
	{ STRING(session_status, given_to) },
	{ INT(session_status, missing_bytes), NOT_NEGATIVE },
	{ INT(session_status, missing_total), NOT_NEGATIVE },
	{ INT(session_status, stalled_since), NOT_NEGATIVE },
	{ STRING(session_status, stalled) },
};
WIRE_STRUCT_OF(session_status);

static const struct wire_field session_status_list_fields[] = {
	{ LIST(session_status_list, "items", items, struct session_status, count,
	       wire_session_status),
	  REQUIRED },
};
WIRE_STRUCT_OF(session_status_list);

static const struct wire_field departure_fields[] = {
	{ STRING(departure, id), REQUIRED },
	{ STRING(departure, session), REQUIRED },
	{ STRING(departure, to), REQUIRED },
	{ ENUM(departure, state, enum departure_state, departure_state_names) },
	{ STRING(departure, why) },
};
WIRE_STRUCT_OF(departure);

static const struct wire_field take_back_request_fields[] = {
	{ INT(take_back_request, fence), NOT_NEGATIVE },
};
WIRE_STRUCT_OF(take_back_request);

static const struct wire_field moving_request_fields[] = {
	{ STRING(moving_request, session), REQUIRED },
	{ STRING(moving_request, effect), REQUIRED },
};
WIRE_STRUCT_OF(moving_request);

static const struct wire_field node_notice_fields[] = {
	{ STRING(node_notice, id), REQUIRED },
	{ ENUM(node_notice, kind, enum notice_kind, notice_kind_names), REQUIRED },
	{ STRING(node_notice, source), REQUIRED },
	{ INT(node_notice, at), NOT_NEGATIVE },
	{ INT(node_notice, seen_at), NOT_NEGATIVE },
	{ STRING(node_notice, detail) },
};
WIRE_STRUCT_OF(node_notice);

enum { DRILL_MOST_MS = 86400000 };
static const struct wire_field drill_request_fields[] = {
	{ ENUM(drill_request, kind, enum notice_kind, notice_kind_names), REQUIRED },
	{ INT(drill_request, in_ms), RANGE(0, DRILL_MOST_MS) },
	{ STRING(drill_request, who) },
};
WIRE_STRUCT_OF(drill_request);

static const struct wire_field node_info_fields[] = {
	{ STRING(node_info, name), REQUIRED },
	{ STRING(node_info, version), REQUIRED },
	{ STRING(node_info, boot_id), REQUIRED },
	{ STRING(node_info, criu) },
	{ STRING(node_info, cpu) },
	{ INT(node_info, cpus), NOT_NEGATIVE },
	{ INT(node_info, memory_bytes), NOT_NEGATIVE },
	{ INT(node_info, memory_available_bytes), NOT_NEGATIVE },
	{ STRING(node_info, doze) },
	{ STRING(node_info, doze_lacks) },
	{ INT(node_info, out_room_bytes), NOT_NEGATIVE },
	{ INT(node_info, out_bytes), NOT_NEGATIVE },
	{ INT(node_info, out_stored_bytes), NOT_NEGATIVE },
	{ BOOL(node_info, pressure_known) },
	{ DOUBLE(node_info, pressure_some), RANGE(0, 100) },
	{ DOUBLE(node_info, pressure_full), RANGE(0, 100) },
	{ STRING(node_info, features) },
	{ STRING(node_info, cloud) },
	{ STRING(node_info, instance) },
	{ STRING(node_info, instance_type) },
	{ STRING(node_info, zone) },
	{ STRING(node_info, price) },
	{ STRING(node_info, underlay) },
	{ INT(node_info, move_port), RANGE(0, 65535) },
	{ INT(node_info, move_version), NOT_NEGATIVE },
	{ STRINGS(node_info, images) },
	{ INT(node_info, lease_left_ms), RANGE(-1, INT64_MAX) },
	{ BOOL(node_info, evacuating) },
	{ INT(node_info, upload_bytes_per_s), NOT_NEGATIVE },
	{ LIST(node_info, "notices", notices, struct node_notice, notice_count, wire_node_notice) },
};
WIRE_STRUCT_OF(node_info);

static const struct wire_field node_question_fields[] = {
	{ STRINGS(node_question, images) },
};
WIRE_STRUCT_OF(node_question);

static const struct wire_field join_request_fields[] = {
	{ STRING(join_request, token) },         { STRING(join_request, name) },
	{ STRING(join_request, csr), REQUIRED }, { STRING(join_request, listen) },
	{ STRING(join_request, version) },
};
WIRE_STRUCT_OF(join_request);

static const struct wire_field join_answer_fields[] = {
	{ STRING(join_answer, certificate), REQUIRED },
	{ STRING(join_answer, ca), REQUIRED },
	{ STRING(join_answer, overlay) },
};
WIRE_STRUCT_OF(join_answer);

static const struct wire_field lease_request_fields[] = {
	{ STRING(lease_request, boot_id), REQUIRED },
	{ STRING(lease_request, listen) },
	{ INT(lease_request, asked_at), NOT_NEGATIVE },
	{ INT(lease_request, news_at), NOT_NEGATIVE },
	{ BOOL(lease_request, leaving) },
	{ LIST(lease_request, "notices", notices, struct node_notice, notice_count,
	       wire_node_notice) },
};
WIRE_STRUCT_OF(lease_request);

static const struct wire_field lease_grant_fields[] = {
	{ INT(lease_grant, lease_ms), NOT_NEGATIVE, REQUIRED },
	{ STRINGS(lease_grant, sessions) },
};
WIRE_STRUCT_OF(lease_grant);

static const struct wire_field overlay_peer_fields[] = {
	{ STRING(overlay_peer, name), REQUIRED },
	{ STRING(overlay_peer, underlay), REQUIRED },
	{ STRING(overlay_peer, overlay), REQUIRED },
};
static WIRE_STRUCT_OF(overlay_peer);

static const struct wire_field overlay_route_fields[] = {
	{ STRING(overlay_route, address), REQUIRED },
	{ STRING(overlay_route, via), REQUIRED },
};
static WIRE_STRUCT_OF(overlay_route);

static const struct wire_field overlay_state_fields[] = {
	{ STRING(overlay_state, overlay) },
	{ LIST(overlay_state, "peers", peers, struct overlay_peer, peer_count, wire_overlay_peer) },
	{ LIST(overlay_state, "routes", routes, struct overlay_route, route_count,
	       wire_overlay_route) },
};
WIRE_STRUCT_OF(overlay_state);

static const struct wire_field evacuee_fields[] = {
	{ STRING(evacuee, session), REQUIRED },
	{ ENUM(evacuee, state, enum evacuee_state, evacuee_state_names), REQUIRED },
	{ INT(evacuee, begun_at), NOT_NEGATIVE },
	{ INT(evacuee, ended_at), NOT_NEGATIVE },
	{ INT(evacuee, frozen_at), NOT_NEGATIVE },
	{ INT(evacuee, generation), NOT_NEGATIVE },
	{ INT(evacuee, snapshot_at), NOT_NEGATIVE },
	{ INT(evacuee, bytes), NOT_NEGATIVE },
	{ STRING(evacuee, why) },
	{ STRING(evacuee, to) },
	{ BOOL(evacuee, to_move) },
	{ BOOL(evacuee, noted) },
};
static WIRE_STRUCT_OF(evacuee);

static const struct wire_field evacuation_fields[] = {
	{ STRUCT(evacuation, notice, struct node_notice, wire_node_notice), REQUIRED },
	{ INT(evacuation, begun_at), NOT_NEGATIVE },
	{ INT(evacuation, ended_at), NOT_NEGATIVE },
	{ INT(evacuation, margin_ms), RANGE(INT64_MIN, INT64_MAX) },
	{ LIST(evacuation, "sessions", sessions, struct evacuee, session_count, wire_evacuee) },
};
WIRE_STRUCT_OF(evacuation);

static const struct wire_field checkpoint_info_fields[] = {
	{ STRING(checkpoint_info, session), REQUIRED },
	{ INT(checkpoint_info, generation), NOT_NEGATIVE, REQUIRED },
	{ INT(checkpoint_info, created_at), NOT_NEGATIVE },
	{ INT(checkpoint_info, memory_bytes), NOT_NEGATIVE },
	{ INT(checkpoint_info, stored_bytes), NOT_NEGATIVE },
	{ INT(checkpoint_info, shared_bytes), NOT_NEGATIVE },
	{ INT(checkpoint_info, objects), NOT_NEGATIVE },
	{ INT(checkpoint_info, basis), NOT_NEGATIVE },
	{ BOOL(checkpoint_info, aside) },
	{ STRING(checkpoint_info, user) },
	{ STRING(checkpoint_info, server) },
	{ STRING(checkpoint_info, cpu) },
	{ STRING(checkpoint_info, criu) },
	{ STRING(checkpoint_info, kernel) },
	{ STRING(checkpoint_info, damaged) },
	{ STRING(checkpoint_info, fence) },
};
WIRE_STRUCT_OF(checkpoint_info);

static const struct wire_field checkpoint_list_fields[] = {
	{ LIST(checkpoint_list, "items", items, struct checkpoint_info, count,
	       wire_checkpoint_info),
	  REQUIRED },
};
WIRE_STRUCT_OF(checkpoint_list);

static const struct wire_field memory_info_fields[] = {
	{ STRING(memory_info, name), REQUIRED },
	{ INT(memory_info, pages), NOT_NEGATIVE },
	{ INT(memory_info, zero_pages), NOT_NEGATIVE },
};
static WIRE_STRUCT_OF(memory_info);

static const struct wire_field checkpoint_detail_fields[] = {
	{ STRUCT(checkpoint_detail, checkpoint, struct checkpoint_info, wire_checkpoint_info),
	  REQUIRED },
	{ LIST(checkpoint_detail, "memories", memories, struct memory_info, memory_count,
	       wire_memory_info) },
	{ INT(checkpoint_detail, frames), NOT_NEGATIVE },
	{ INT(checkpoint_detail, hot_frames), NOT_NEGATIVE },
};
WIRE_STRUCT_OF(checkpoint_detail);

static const struct wire_field store_request_fields[] = {
	{ ENUM(store_request, kind, enum store_task_kind, store_task_kind_names), REQUIRED },
	{ STRING(store_request, session) },
	{ INT(store_request, generation), NOT_NEGATIVE },
	{ BOOL(store_request, dry_run) },
};
WIRE_STRUCT_OF(store_request);

static const struct wire_field store_task_fields[] = {
	{ STRING(store_task, id), REQUIRED },
	{ ENUM(store_task, kind, enum store_task_kind, store_task_kind_names), REQUIRED },
	{ ENUM(store_task, state, enum effect_state, effect_state_names), REQUIRED },
	{ INT(store_task, done), NOT_NEGATIVE },
	{ INT(store_task, total), NOT_NEGATIVE },
	{ STRING(store_task, fault) },
	{ STRING(store_task, text) },
	{ STRING(store_task, remedy) },
	{ INT(store_task, objects), NOT_NEGATIVE },
	{ INT(store_task, bytes), NOT_NEGATIVE },
	{ INT(store_task, kept_objects), NOT_NEGATIVE },
	{ INT(store_task, kept_bytes), NOT_NEGATIVE },
	{ INT(store_task, count), NOT_NEGATIVE },
	{ BOOL(store_task, dry_run) },
	{ LIST(store_task, "checkpoints", checkpoints, struct checkpoint_info, checkpoint_count,
	       wire_checkpoint_info) },
	{ STRING(store_task, spec) },
};
WIRE_STRUCT_OF(store_task);
