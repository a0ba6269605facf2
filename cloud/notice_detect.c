/* SPDX-License-Identifier: Apache-2.0 */
#include "base/cleanup.h"
#include "base/fs.h"
#include "cloud/notice_provider.h"

#include <stdio.h>
#include <string.h>

const char *const notice_cloud_names[NOTICE_CLOUD_COUNT] = {
	[NOTICE_CLOUD_AWS] = "aws",
	[NOTICE_CLOUD_GCP] = "gcp",
	[NOTICE_CLOUD_AZURE] = "azure",
};

/* "" when there is none. */
static void read_string(const char *dir, const char *name, char *to, size_t size)
{
	cleanup_free char *path = fs_join(dir, name);
	cleanup_buf struct buf text = BUF_INIT(4096);
	to[0] = '\0';
	if (path && fs_read(path, &text, NULL) == 0)
		snprintf(to, size, "%.*s", (int)strcspn(buf_text(&text), "\n"), buf_text(&text));
}

/* Others make machines too: Google's laptops, Hyper-V's guests everywhere. */
enum notice_cloud notice_cloud_of(const char *dir)
{
	static const char azure_tag[] = "7783-7084-3265-9085-8269-3286-77";
	char vendor[64];
	char product[64];
	char version[64];
	char tag[64];
	read_string(dir, "sys_vendor", vendor, sizeof(vendor));
	read_string(dir, "product_name", product, sizeof(product));
	read_string(dir, "bios_version", version, sizeof(version));
	read_string(dir, "chassis_asset_tag", tag, sizeof(tag));
	if (strcmp(vendor, "Amazon EC2") == 0 ||
	    (strcmp(vendor, "Xen") == 0 && strstr(version, "amazon")))
		return NOTICE_CLOUD_AWS;
	if (strcmp(vendor, "Google") == 0 && strcmp(product, "Google Compute Engine") == 0)
		return NOTICE_CLOUD_GCP;
	if (strcmp(vendor, "Microsoft Corporation") == 0 && strcmp(tag, azure_tag) == 0)
		return NOTICE_CLOUD_AZURE;
	return NOTICE_CLOUD_NONE;
}
