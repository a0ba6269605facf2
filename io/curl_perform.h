/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_IO_CURL_PERFORM_H
#define ELSA_IO_CURL_PERFORM_H

#include <curl/curl.h>

/* curl_easy_perform() without SIGPIPE: OpenSSL writes to connections whose peer is gone. The signal
 * is held back for this thread only, and taken if it came: a command that prints into a pipe needs
 * the rest of the program to heed it. Blocks; thread-safe. */
CURLcode curl_perform(CURL *easy);

#endif
