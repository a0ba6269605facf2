/* SPDX-License-Identifier: Apache-2.0 */
/* As packaging/prices/aws-us-east-1 has it, without its words for people; a test compares them. */
#include "prices/prices.h"

/* clang-format off */
const char prices_default[] =
	"elsa-prices 1\n"
	"currency USD\n"
	"as-of 2026-06-17\n"
	"type m6i.2xlarge 8 32G 0.384\n"
	"type m5.2xlarge 8 32G 0.384\n"
	"type m6a.2xlarge 8 32G 0.3456\n"
	"pool spot-a m6i.2xlarge spot 0.140\n"
	"pool spot-b m5.2xlarge spot 0.146\n"
	"pool spot-c m6a.2xlarge spot 0.130\n"
	"pool on-demand m6i.2xlarge on-demand\n"
	"boot 90\n"
	"store 0.023 0.005 0.0004\n";
/* clang-format on */
