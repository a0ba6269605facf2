/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_BASE_LOG_H
#define ELSA_BASE_LOG_H

/*
 * The daemons' log: one line per event on standard error, with the priority
 * prefix systemd understands (sd-daemon(3)) when the journal reads it and a
 * time stamp when it does not. For controller/ and node/ only; libraries fill
 * in a struct error instead. Thread-safe.
 */

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARNING, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

void log_init(enum log_level most);
void log_line(enum log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

#define log_error(...)   log_line(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warning(...) log_line(LOG_LEVEL_WARNING, __VA_ARGS__)
#define log_info(...)    log_line(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...)   log_line(LOG_LEVEL_DEBUG, __VA_ARGS__)

#endif
