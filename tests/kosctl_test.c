// SPDX-License-Identifier: GPL-2.0-only
/*
 * kosctl: what it prints, word for word, how it exits, and that it does what it
 * says. In the texts, @BDF stands for the device, @BAR for where its registers
 * are, @GROUP for its IOMMU group, @PID for the process that holds it, @ADDR for
 * what it has mapped, and @IOVA, @LAST and @BEHIND for that as the device sees it.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <fnmatch.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <linux/capability.h>

#include "harness.h"
#include "lib/buffer.h"
#include "lib/edu.h"
#include "lib/probe.h"

#define DEVICE "/sys/bus/pci/devices/@BDF"
#define RMEM_MAX "/proc/sys/net/core/rmem_max"
#define UNQUIET "/sys/module/kosdma/parameters/inject_unquiet"

enum {
	DONE = 0,
	REFUSED = 1,
	USAGE = 2,
	NO_MODULE = 3,
	TEXT_MAX = 8192,
	WORDS_MAX = 8,
};

FIXTURE(kosctl)
{
	struct edu edu;
	char group[16];
	char program[256];
	pid_t holder;
	int sync[2];
	uintptr_t *mapped; /* shared with the holder */
};

/* Beside the tests, or where installed programs are. */
static void find_program(char path[256])
{
	ssize_t len = readlink("/proc/self/exe", path, 200);
	char *slash;

	ASSERT_GT(len, 0);
	path[len] = '\0';
	slash = strrchr(path, '/');
	strcpy(slash, "/../tools/kosctl");
	if (access(path, X_OK))
		strcpy(path, "kosctl");
}

static void unbind(const struct edu *edu)
{
	char driver[64], path[128];

	probe_driver(edu->path, driver);
	if (driver[0]) {
		snprintf(path, sizeof(path), "/sys/bus/pci/drivers/%s/unbind", driver);
		ASSERT_TRUE(probe_write_file(path, strrchr(edu->path, '/') + 1));
	}
	snprintf(path, sizeof(path), "%s/driver_override", edu->path);
	ASSERT_TRUE(probe_write_file(path, "\n"));
}

/* What -j prints is JSON, says somebody who did not write it. */
static void parse_json(const char *out)
{
	FILE *f;

	if (system("type jq >/dev/null 2>&1"))
		return;
	f = popen("jq . >/dev/null", "we");
	ASSERT_NOT_NULL(f);
	fputs(out, f);
	EXPECT_EQ(0, pclose(f));
}

/* Runs kosctl with the words of a command line. Returns its exit status. */
static int run(const struct fixture_data_kosctl *self, const char *line, char out[TEXT_MAX],
	       char err[TEXT_MAX])
{
	char *words[WORDS_MAX + 2] = { (char *)self->program }, *copy = strdup(line), *word;
	FILE *files[2] = { tmpfile(), tmpfile() };
	char *texts[2] = { out, err };
	int nr = 1, status;
	pid_t pid;

	ASSERT_NOT_NULL(files[0]);
	ASSERT_NOT_NULL(files[1]);
	for (word = strtok(copy, " "); word && nr <= WORDS_MAX; word = strtok(NULL, " "))
		words[nr++] = strcmp(word, "@BDF") ? word : strrchr(self->edu.path, '/') + 1;
	pid = test_fork();
	if (!pid) {
		dup2(fileno(files[0]), STDOUT_FILENO);
		dup2(fileno(files[1]), STDERR_FILENO);
		execvp(words[0], words);
		_exit(127);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	ASSERT_TRUE(WIFEXITED(status));
	for (int i = 0; i < 2; i++) {
		size_t len;

		rewind(files[i]);
		len = fread(texts[i], 1, TEXT_MAX - 1, files[i]);
		texts[i][len] = '\0';
		fclose(files[i]);
	}
	free(copy);
	if (WEXITSTATUS(status) == 127)
		SKIP("needs kosctl, beside the tests or in PATH");
	if (strstr(line, " -j") && *out)
		parse_json(out);
	return WEXITSTATUS(status);
}

/* The text with the words for @... put in. */
static void expand(const struct fixture_data_kosctl *self, const char *text, char out[TEXT_MAX])
{
	const struct {
		const char *word;
		char value[32];
	} words[] = {
		{ "@BDF", "" }, { "@GROUP", "" }, { "@PID", "" }, { "@ADDR", "" }, { "@BAR", "" },
		{ "@IOVA", "" }, { "@LAST", "" }, { "@BEHIND", "" },
	};
	size_t len = 0;

	while (*text && len < TEXT_MAX - 64) {
		size_t i;

		for (i = 0; i < ARRAY_SIZE(words); i++)
			if (!strncmp(text, words[i].word, strlen(words[i].word)))
				break;
		if (i == 0)
			len += sprintf(out + len, "%s", strrchr(self->edu.path, '/') + 1);
		else if (i == 1)
			len += sprintf(out + len, "%s", self->group);
		else if (i == 2)
			len += sprintf(out + len, "%d", self->holder);
		else if (i == 3)
			len += sprintf(out + len, "%#lx", (unsigned long)*self->mapped);
		else if (i == 4)
			len += sprintf(out + len, "%#llx", (unsigned long long)self->edu.bar);
		else if (i < ARRAY_SIZE(words))
			len += sprintf(out + len, "%#lx",
				       (unsigned long)self->mapped[i - 4]);
		else
			out[len++] = *text;
		text += i < ARRAY_SIZE(words) ? strlen(words[i].word) : 1;
	}
	out[len] = '\0';
}

/* Exactly this is printed; NULL: anything. */
static void expect(const struct fixture_data_kosctl *self, const char *line, int status,
		   const char *out, const char *err)
{
	static char seen[2][TEXT_MAX], wanted[TEXT_MAX];

	test_context("kosctl %s", line);
	expand(self, line, wanted);
	EXPECT_EQ(status, run(self, wanted, seen[0], seen[1]));
	if (out) {
		expand(self, out, wanted);
		EXPECT_STREQ(wanted, seen[0]);
	}
	if (err) {
		expand(self, err, wanted);
		EXPECT_STREQ(wanted, seen[1]);
	}
	test_context("%s", "");
}

FIXTURE_SETUP(kosctl)
{
	static char out[TEXT_MAX], err[TEXT_MAX];
	char path[128], link[128];
	ssize_t len;

	probe_require_module();
	if (geteuid())
		SKIP("needs root");
	edu_require(&self->edu, 0);
	find_program(self->program);
	/* Some kernels give a device its IOMMU group when a driver first comes. */
	run(self, "bind @BDF", out, err);
	snprintf(path, sizeof(path), "%s/iommu_group", self->edu.path);
	len = readlink(path, link, sizeof(link) - 1);
	link[len > 0 ? len : 0] = '\0';
	snprintf(self->group, sizeof(self->group), "%.15s",
		 len > 0 ? strrchr(link, '/') + 1 : "-");
	unbind(&self->edu);
	expect(self, "revoke-grant @BDF --all", REFUSED, "",
	       "kosctl: there is no such grant (No such file or directory)\n");
}

FIXTURE_TEARDOWN(kosctl)
{
	char out[TEXT_MAX], err[TEXT_MAX];

	run(self, "revoke-grant @BDF --all", out, err);
	unbind(&self->edu);
}

/* ---- the command line ---- */

TEST_F(kosctl, wrong_command_lines_are_told_precisely_and_exit_2)
{
	static const struct {
		const char *line;
		const char *err;
	} lines[] = {
		{ "", "kosctl: which command?\n'kosctl --help' lists them\n" },
		{ "lis", "kosctl: there is no command 'lis'\n'kosctl --help' lists them\n" },
		{ "list dev",
		  "kosctl: 'list' what? there is no 'dev'\n'kosctl --help' lists them\n" },
		{ "list devices 1", "kosctl: '1' is one word too many\n"
				    "usage: kosctl list devices [--bdf BDF] [-j]\n" },
		{ "grants --all",
		  "kosctl: 'grants' takes no --all\nusage: kosctl grants [--bdf BDF] [-j]\n" },
		{ "grant", "kosctl: 'grant' needs the address of a device\n"
			   "usage: kosctl grant BDF {--user U | --group G}\n" },
		{ "grant @BDF", "kosctl: 'grant' needs exactly one of its options\n"
				"usage: kosctl grant BDF {--user U | --group G}\n" },
		{ "grant @BDF --user 1 --group 1",
		  "kosctl: 'grant' needs exactly one of its options\n"
		  "usage: kosctl grant BDF {--user U | --group G}\n" },
		{ "grant @BDF --user 1 --user 2", "kosctl: --user is given twice\n" },
		{ "grant @BDF --us 1", "kosctl: there is no option '--us'\n" },
		{ "grant @BDF --user nosuchuser", "kosctl: there is no user 'nosuchuser'\n" },
		{ "grant @BDF --group nosuchgroup", "kosctl: there is no group 'nosuchgroup'\n" },
		{ "grant @BDF --user 4294967295", "kosctl: there is no user '4294967295'\n" },
		{ "grant @BDF --user 1x", "kosctl: there is no user '1x'\n" },
		{ "grant 8 --user 1", "kosctl: '8' is no PCI address\n" },
		{ "grant 00:08 --user 1", "kosctl: '00:08' is no PCI address\n" },
		{ "grant 00:08.8 --user 1", "kosctl: '00:08.8' is no PCI address\n" },
		{ "grant 00:20.0 --user 1", "kosctl: '00:20.0' is no PCI address\n" },
		{ "grant 100:08.0 --user 1", "kosctl: '100:08.0' is no PCI address\n" },
		{ "grant 10000:00:08.0 --user 1", "kosctl: '10000:00:08.0' is no PCI address\n" },
		{ "grant 00:08.0x --user 1", "kosctl: '00:08.0x' is no PCI address\n" },
		{ "grant 00:-8.0 --user 1", "kosctl: '00:-8.0' is no PCI address\n" },
		{ "list buffers --pid x", "kosctl: 'x' is no process\n" },
		{ "list buffers --pid 0", "kosctl: '0' is no process\n" },
		{ "list buffers --force",
		  "kosctl: 'list' takes no --force\n"
		  "usage: kosctl list buffers [--pid P] [--bdf BDF] [-j]\n" },
		{ "tree -j", "kosctl: 'tree' takes no --json\nusage: kosctl tree\n" },
		{ "stat -w 0", "kosctl: '0' is no number of seconds\n" },
		{ "stat --since-boot", "kosctl: 'stat' takes no --since-boot\n"
				       "usage: kosctl stat [-w SECONDS] [-j]\n" },
		{ "why 8", "kosctl: '8' is no PCI address\n" },
		{ "who", "kosctl: 'who' needs a buffer, an address or a device\n"
			 "usage: kosctl who BUFFER|ADDRESS|BDF [-j]\n" },
		{ "who x", "kosctl: 'x' is no buffer, no address (0x...) and no device\n" },
		{ "who 4294967296",
		  "kosctl: '4294967296' is no buffer, no address (0x...) and no device\n" },
		{ "release", "kosctl: 'release' needs either the address of a device or --all\n"
			     "usage: kosctl release {BDF | --all}\n" },
		{ "release @BDF --all",
		  "kosctl: 'release' needs either the address of a device or --all\n"
		  "usage: kosctl release {BDF | --all}\n" },
		{ "list devices --bdf x", "kosctl: 'x' is no PCI address\n" },
		{ "bind @BDF --user 1", "kosctl: 'bind' takes no --user\n"
					"usage: kosctl bind BDF [--force] [--dry-run]\n" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(lines); i++)
		expect(self, lines[i].line, USAGE, "", lines[i].err);
}

TEST_F(kosctl, help_lists_the_commands)
{
	static char out[TEXT_MAX], err[TEXT_MAX];

	EXPECT_EQ(DONE, run(self, "--help", out, err));
	EXPECT_EQ(0, strncmp(out, "usage: kosctl COMMAND\n", 22));
	EXPECT_NOT_NULL(strstr(out, "\n  kosctl revoke-grant BDF {"));
	EXPECT_STREQ("", err);
}

/* ---- grants ---- */

TEST_F(kosctl, grants_are_given_shown_and_taken_back)
{
	expect(self, "grants", DONE, "BDF  KIND  ID  NAME\n", "");
	expect(self, "grants -j", DONE, "[\n]\n", "");
	expect(self, "grant @BDF --user 4321", DONE, "", NULL);
	expect(self, "grant @BDF --group nogroup", DONE, "", NULL);
	expect(self, "grant @BDF --user 4321", REFUSED, "",
	       "kosctl: it is granted already (File exists)\n");
	expect(self, "grants", DONE,
	       "BDF           KIND   ID     NAME\n"
	       "@BDF  user   4321   -\n"
	       "@BDF  group  65534  nogroup\n",
	       "");
	expect(self, "grants --json --bdf @BDF", DONE,
	       "[\n"
	       "{\"bdf\":\"@BDF\",\"kind\":\"user\",\"id\":4321,\"name\":null},\n"
	       "{\"bdf\":\"@BDF\",\"kind\":\"group\",\"id\":65534,\"name\":\"nogroup\"}\n"
	       "]\n",
	       "");
	expect(self, "grants --bdf ff:1f.7", DONE, "BDF  KIND  ID  NAME\n", "");
	expect(self, "revoke-grant @BDF --group 65534", DONE, "", "");
	expect(self, "grants", DONE,
	       "BDF           KIND  ID    NAME\n"
	       "@BDF  user  4321  -\n",
	       "");
	expect(self, "revoke-grant @BDF --all", DONE, "", "");
	expect(self, "grants", DONE, "BDF  KIND  ID  NAME\n", "");
	expect(self, "grant ff:1f.7 --user 1", REFUSED, "",
	       "kosctl: there is no such PCI function (No such device)\n");
}

TEST_F(kosctl, administration_without_privilege_exits_1)
{
	IN_CHILD {
		probe_become_nobody();
		expect(self, "grant @BDF --user 1", REFUSED, "",
		       "kosctl: it takes CAP_SYS_ADMIN in the initial user namespace, of the sender and of who opened the socket (Operation not permitted)\n");
		expect(self, "bind @BDF", REFUSED,
		       "writing 'kosdma' to " DEVICE "/driver_override\n",
		       "kosctl: " DEVICE "/driver_override: Permission denied\n");
		expect(self, "grants", DONE, "BDF  KIND  ID  NAME\n", "");
	}
}

/* ---- devices ---- */

TEST_F(kosctl, device_is_listed_as_text_and_json)
{
	static char text[TEXT_MAX], err[TEXT_MAX];
	bool translated = edu_translated(&self->edu);

	if (!translated)
		SKIP("the texts are those of a device behind an IOMMU");
	expect(self, "list devices -j --bdf @BDF", DONE,
	       "[\n"
	       "{\"bdf\":\"@BDF\",\"driver\":null,\"iommu_group\":@GROUP,\"owner_pid\":null,\"owner_uid\":null,\"state\":[\"translated\"]}\n"
	       "]\n",
	       "");
	expect(self, "bind @BDF", DONE, NULL, NULL);
	expect(self, "list devices -j --bdf @BDF", DONE,
	       "[\n"
	       "{\"bdf\":\"@BDF\",\"driver\":\"kosdma\",\"iommu_group\":@GROUP,\"owner_pid\":null,\"owner_uid\":null,\"state\":[\"bound\",\"translated\"]}\n"
	       "]\n",
	       "");
	EXPECT_EQ(DONE, run(self, "list devices", text, err));
	EXPECT_NOT_NULL(strstr(text, "BDF           DRIVER"));
	EXPECT_NOT_NULL(strstr(text, "  bound,translated\n"));
	expect(self, "list devices --bdf ff:1f.7", REFUSED, "",
	       "kosctl: there is no such PCI function (No such device)\n");
}

static void hold(struct fixture_data_kosctl *self)
{
	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, self->sync));
	self->holder = test_fork();
	if (!self->holder) {
		ASSERT_OK(KnIommuAttachDevice(self->edu.bdf));
		probe_signal(self->sync[1]);
		probe_await(self->sync[1]);
		test_child_exit();
	}
	probe_await(self->sync[0]);
}

TEST_F(kosctl, unbind_refuses_a_held_device_unless_forced)
{
	expect(self, "bind @BDF", DONE,
	       "writing 'kosdma' to " DEVICE "/driver_override\n"
	       "writing '@BDF' to /sys/bus/pci/drivers_probe\n",
	       NULL);
	expect(self, "bind @BDF", DONE, "@BDF is bound to kosdma already\n", "");
	hold(self);
	expect(self, "unbind @BDF", REFUSED, "",
	       "kosctl: @BDF is in use: process @PID holds its group\n"
	       "kosctl: @BDF is left as it is; --force takes it nevertheless\n");
	EXPECT_TRUE(probe_bus_master(self->edu.path));
	expect(self, "unbind @BDF --force --dry-run", DONE,
	       "would write '@BDF' to /sys/bus/pci/drivers/kosdma/unbind\n"
	       "would write '' to " DEVICE "/driver_override\n"
	       "would write '@BDF' to /sys/bus/pci/drivers_probe\n",
	       "kosctl: @BDF is in use: process @PID holds its group\n");
	EXPECT_TRUE(probe_bus_master(self->edu.path));
	expect(self, "unbind @BDF --force", DONE,
	       "writing '@BDF' to /sys/bus/pci/drivers/kosdma/unbind\n"
	       "writing '' to " DEVICE "/driver_override\n"
	       "writing '@BDF' to /sys/bus/pci/drivers_probe\n",
	       "kosctl: @BDF is in use: process @PID holds its group\n");
	EXPECT_FALSE(probe_bus_master(self->edu.path));
	probe_signal(self->sync[0]);
	test_wait(self->holder);
	expect(self, "unbind @BDF", REFUSED, "",
	       "kosctl: @BDF is not bound to kosdma: no driver has it\n");
}

static bool modprobe(const char *module)
{
	char command[64];

	snprintf(command, sizeof(command), "modprobe %s 2>/dev/null", module);
	return !system(command);
}

TEST_F(kosctl, bind_refuses_a_device_of_a_kernel_driver_unless_forced)
{
	char path[128], driver[64];

	if (access("/sys/bus/pci/drivers/pci-stub", F_OK) && !modprobe("pci-stub"))
		SKIP("needs the kernel's pci-stub driver");
	snprintf(path, sizeof(path), "%s/driver_override", self->edu.path);
	ASSERT_TRUE(probe_write_file(path, "pci-stub"));
	probe_write_file("/sys/bus/pci/drivers_probe", strrchr(self->edu.path, '/') + 1);
	expect(self, "bind @BDF", REFUSED, "",
	       "kosctl: @BDF is in use: driver pci-stub has it\n"
	       "kosctl: @BDF is left as it is; --force takes it nevertheless\n");
	expect(self, "bind @BDF --force --dry-run", DONE,
	       "would write 'kosdma' to " DEVICE "/driver_override\n"
	       "would write '@BDF' to " DEVICE "/driver/unbind\n"
	       "would write '@BDF' to /sys/bus/pci/drivers_probe\n",
	       NULL);
	probe_driver(self->edu.path, driver);
	EXPECT_STREQ("pci-stub", driver);
	expect(self, "bind @BDF --force", DONE, NULL, NULL);
	probe_driver(self->edu.path, driver);
	EXPECT_STREQ("kosdma", driver);
}

/* A bridge, which kosdma does not take: all is as it was. */
TEST_F(kosctl, device_that_is_not_taken_is_left_as_it_was)
{
	char text[64] = "";
	FILE *f;

	if (access("/sys/bus/pci/devices/0000:00:00.0", F_OK))
		SKIP("needs a host bridge at 00:00.0");
	expect(self, "bind 00:00.0", REFUSED, NULL,
	       "kosctl: 0000:00:00.0 was not bound: no driver has it\n");
	f = fopen("/sys/bus/pci/devices/0000:00:00.0/driver_override", "re");
	ASSERT_NOT_NULL(f);
	EXPECT_NOT_NULL(fgets(text, sizeof(text), f));
	EXPECT_TRUE(!strcmp(text, "(null)\n") || !strcmp(text, "\n"));
	fclose(f);
}

/* ---- objects ---- */

/* In a machine where nobody else has any: the automatic domain is 1, and so on. */
static void hold_objects(struct fixture_data_kosctl *self)
{
	self->mapped = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, (void *)self->mapped);
	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, self->sync));
	self->holder = test_fork();
	if (!self->holder) {
		Handle buffer, mapping;

		ASSERT_OK(KnIommuAttachDevice(self->edu.bdf));
		buffer = buffer_create(0, PAGES(2), 0);
		*self->mapped = (uintptr_t)buffer_map(buffer, PAGES(2), &mapping);
		self->mapped[1] = access_addr(access_begin(buffer));
		self->mapped[2] = self->mapped[1] + PAGES(2) - 1;
		self->mapped[3] = self->mapped[1] + PAGES(2);
		probe_signal(self->sync[1]);
		probe_await(self->sync[1]);
		test_child_exit();
	}
	probe_await(self->sync[0]);
}

static void let_go(struct fixture_data_kosctl *self)
{
	probe_signal(self->sync[0]);
	test_wait(self->holder);
	munmap(self->mapped, PAGE);
}

TEST_F(kosctl, objects_are_listed_as_text_and_json)
{
	static char text[TEXT_MAX], err[TEXT_MAX];

	if (!edu_translated(&self->edu))
		SKIP("the texts are those of a device behind an IOMMU");
	expect(self, "list buffers", DONE,
	       "SID  PID  UID  STATE  BYTES  PAGES  BLOCKS  ORDER  USERS  ATTRIBUTES\n", "");
	expect(self, "list domains -j", DONE, "[\n]\n", "");
	expect(self, "tree", DONE, "", "");
	expect(self, "bind @BDF", DONE, NULL, NULL);
	hold_objects(self);
	expect(self, "list buffers --pid @PID -j", DONE,
	       "[\n{\"sid\":2,\"pid\":@PID,\"uid\":0,\"state\":\"live\",\"length\":8192,\"pages\":2,\"blocks\":1,\"order\":0,\"users\":2,\"attributes\":[\"to-device\",\"from-device\",\"write-back\"]}\n]\n",
	       "");
	expect(self, "list mappings --bdf @BDF -j", DONE,
	       "[\n{\"sid\":3,\"pid\":@PID,\"uid\":0,\"state\":\"live\",\"source_type\":\"buffer\",\"source\":2,\"address\":\"@ADDR\",\"offset\":0,\"length\":8192,\"flags\":[\"read\",\"write\"],\"cache\":\"write-back\"}\n]\n",
	       "");
	expect(self, "list accesses -j", DONE,
	       "[\n{\"sid\":4,\"pid\":@PID,\"uid\":0,\"state\":\"live\",\"buffer\":2,\"domain\":1,\"mode\":\"translated\",\"address\":\"@IOVA\",\"length\":8192,\"directions\":[\"to-device\",\"from-device\"]}\n]\n",
	       "");
	expect(self, "list domains -j", DONE,
	       "[\n{\"sid\":1,\"pid\":@PID,\"uid\":0,\"state\":\"live\",\"mode\":\"translated\",\"automatic\":1,\"accesses\":1,\"placed\":1,\"iova_bytes\":8192,\"lingering_pages\":0,\"faults\":0,\"devices\":[\"@BDF\"]}\n]\n",
	       "");
	expect(self, "list handles -j --pid @PID --bdf @BDF", DONE,
	       "[\n{\"sid\":2,\"type\":\"buffer\",\"number\":1,\"parent\":null,\"pid\":@PID,\"uid\":0,\"state\":\"live\",\"uses\":2,\"badge\":null,\"rights\":[\"transfer\",\"copy\",\"get-sid\",\"read\",\"write\",\"begin\",\"modify\",\"io\"]},\n"
	       "{\"sid\":3,\"type\":\"mapping\",\"number\":1,\"parent\":null,\"pid\":@PID,\"uid\":0,\"state\":\"live\",\"uses\":0,\"badge\":null,\"rights\":[\"get-sid\"]},\n"
	       "{\"sid\":4,\"type\":\"access\",\"number\":1,\"parent\":null,\"pid\":@PID,\"uid\":0,\"state\":\"live\",\"uses\":0,\"badge\":null,\"rights\":[\"get-sid\"]}\n]\n",
	       "");
	expect(self, "list regions -j", DONE, "[\n]\n", "");
	expect(self, "list quarantine", DONE, "SID  PID  UID  BUFFER  PAGES  BDF\n", "");
	expect(self, "list -j --pid 1", DONE,
	       "{\"buffers\":[\n]\n,\"mappings\":[\n]\n,\"accesses\":[\n]\n,\"domains\":[\n]\n,"
	       "\"regions\":[\n]\n,\"handles\":[\n]\n,\"quarantine\":[\n]\n}\n",
	       "");
	EXPECT_EQ(DONE, run(self, "list -j", text, err));
	EXPECT_EQ(0, strncmp(text, "{\"devices\":[\n{\"bdf\":", 20));
	EXPECT_EQ(DONE, run(self, "list", text, err));
	EXPECT_EQ(0, strncmp(text, "devices:\nBDF ", 13));
	EXPECT_NOT_NULL(strstr(text, "\n\naccesses:\nSID  PID "));
	expect(self, "tree", DONE,
	       "kosctl_test[@PID], user 0\n"
	       "  domain 1 (automatic), translated\n"
	       "    device @BDF\n"
	       "    access 4 at @IOVA, to-device,from-device: buffer 2: 8192 bytes in 1 blocks, to-device,from-device,write-back\n"
	       "  mapping 3 at @ADDR, read,write: buffer 2 (above)\n",
	       "");
	expect(self, "list buffers --pid 1", DONE,
	       "SID  PID  UID  STATE  BYTES  PAGES  BLOCKS  ORDER  USERS  ATTRIBUTES\n", "");
	let_go(self);
}

/* A buffer that two processes have mapped, and the registers of the device. */
static void hold_shared(struct fixture_data_kosctl *self)
{
	self->mapped = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, (void *)self->mapped);
	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, self->sync));
	self->holder = test_fork();
	if (!self->holder) {
		Handle buffer = buffer_create(0, PAGE, 0), mapping, other;
		int sync[2];
		pid_t pid;

		*self->mapped = (uintptr_t)buffer_map(buffer, PAGE, &mapping);
		ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, sync));
		pid = test_fork();
		if (!pid) {
			buffer_map(buffer, PAGE, &other);
			probe_signal(sync[1]);
			probe_await(sync[1]);
			test_child_exit();
		}
		probe_await(sync[0]);
		ASSERT_OK(edu_map_registers(&self->edu));
		probe_signal(self->sync[1]);
		probe_await(self->sync[1]);
		probe_signal(sync[0]);
		test_wait(pid);
		test_child_exit();
	}
	probe_await(self->sync[0]);
}

TEST_F(kosctl, tree_shows_a_shared_buffer_once_and_refers_to_it)
{
	static char out[TEXT_MAX], err[TEXT_MAX], wanted[TEXT_MAX];
	const char *rest;

	if (!edu_translated(&self->edu))
		SKIP("the texts are those of a device behind an IOMMU");
	expect(self, "bind @BDF", DONE, NULL, NULL);
	hold_shared(self);
	expect(self, "list regions -j", DONE,
	       "[\n{\"sid\":4,\"pid\":@PID,\"uid\":0,\"state\":\"live\",\"bdf\":\"@BDF\",\"address\":\"@BAR\",\"length\":1048576,\"mapping\":5,\"flags\":[]}\n]\n",
	       "");
	EXPECT_EQ(DONE, run(self, "tree", out, err));
	EXPECT_STREQ("", err);
	expand(self,
	       "kosctl_test[@PID], user 0\n"
	       "  region 4 of @BDF, 1048576 bytes\n"
	       "  mapping 2 at @ADDR, read,write: buffer 1: 4096 bytes in 1 blocks, to-device,from-device,write-back\n"
	       "  mapping 5 at ",
	       wanted);
	EXPECT_EQ(0, strncmp(wanted, out, strlen(wanted)));
	rest = strstr(out, ": region 4\nkosctl_test[");
	ASSERT_NOT_NULL(rest);
	EXPECT_EQ(0, fnmatch(": region 4\nkosctl_test[[][0-9]*], user 0\n"
			     "  mapping 3 at 0x*, read,write: buffer 1 (above)\n",
			     rest, 0));
	let_go(self);
}

/* Each is looked up, not searched for among all. */
TEST_F(kosctl, tree_and_who_are_quick_with_many_objects)
{
	enum { NR = 10000, SECONDS_MAX = 20 };
	const struct rlimit limit = { 3 * NR, 3 * NR };
	static char out[TEXT_MAX], err[TEXT_MAX];
	struct timespec begin, end;

	ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &limit));
	IN_CHILD {
		for (int i = 0; i < NR; i++)
			access_begin(buffer_create(0, PAGE, 0));
		clock_gettime(CLOCK_MONOTONIC, &begin);
		EXPECT_EQ(DONE, run(self, "tree", out, err));
		EXPECT_EQ(DONE, run(self, "who 0x123", out, err));
		EXPECT_STREQ("OBJECT  WHO  MAY  THROUGH\n", out);
		EXPECT_EQ(DONE, run(self, "who 1 -j", out, err));
		clock_gettime(CLOCK_MONOTONIC, &end);
		EXPECT_LT(end.tv_sec - begin.tv_sec,
			  (time_t)test_seconds(SECONDS_MAX));
	}
}

TEST_F(kosctl, who_tells_processes_and_devices)
{
	static const char all[] =
		"[\n{\"object\":\"buffer 2\",\"who\":\"kosctl_test[@PID]\",\"may\":[\"read\",\"write\"],\"through\":\"mapping 3\"},\n"
		"{\"object\":\"buffer 2\",\"who\":\"device @BDF\",\"may\":[\"read\",\"write\"],\"through\":\"access 4\"},\n"
		"{\"object\":\"buffer 2\",\"who\":\"whoever has it\",\"may\":[\"read\",\"write\"],"
		"\"through\":\"handle 1\"}\n]\n";

	if (!edu_translated(&self->edu))
		SKIP("the texts are those of a device behind an IOMMU");
	expect(self, "bind @BDF", DONE, NULL, NULL);
	hold_objects(self);
	expect(self, "who 2 -j", DONE, all, "");
	expect(self, "who @LAST -j", DONE, all, "");
	expect(self, "who @ADDR -j", DONE, all, "");
	expect(self, "who @BDF -j", DONE, all, "");
	expect(self, "who @BEHIND", DONE, "OBJECT  WHO  MAY  THROUGH\n", "");
	expect(self, "who 77", REFUSED, "", "kosctl: there is no buffer 77 that you may see\n");
	IN_CHILD {
		probe_become_nobody();
		expect(self, "who 2", REFUSED, "",
		       "kosctl: there is no buffer 2 that you may see\n");
		expect(self, "tree", DONE, "", "");
	}
	let_go(self);
}

TEST_F(kosctl, why_names_the_obstacle_and_the_command)
{
	if (!edu_translated(&self->edu))
		SKIP("the texts are those of a device behind an IOMMU");
	expect(self, "why @BDF", REFUSED, "@BDF is bound to no driver\n  kosctl bind @BDF\n", "");
	expect(self, "bind @BDF", DONE, NULL, NULL);
	expect(self, "why @BDF", DONE, "@BDF can be attached\n", "");
	expect(self, "why @BDF -j", DONE, "[\n]\n", "");
	hold(self);
	expect(self, "why @BDF", REFUSED,
	       "process @PID holds the group of @BDF\n"
	       "  kosctl unbind @BDF --force; kosctl bind @BDF\n",
	       "");
	IN_CHILD {
		probe_become_nobody();
		expect(self, "why @BDF -j", REFUSED,
		       "[\n{\"obstacle\":\"grant\",\"bdf\":\"@BDF\",\"driver\":null,\"pid\":null,\"text\":\"no grant lets you have @BDF\",\"command\":\"kosctl grant @BDF --user 65534\"},\n"
		       "{\"obstacle\":\"held\",\"bdf\":\"@BDF\",\"driver\":null,\"pid\":null,\"text\":\"a process holds the group of @BDF\",\"command\":\"kosctl unbind @BDF --force; kosctl bind @BDF\"}\n]\n",
		       "");
	}
	probe_signal(self->sync[0]);
	test_wait(self->holder);
	expect(self, "why ff:1f.7", REFUSED, "",
	       "kosctl: there is no such PCI function (No such device)\n");
}

TEST_F(kosctl, release_and_monitor_are_for_the_administrator)
{
	static char out[TEXT_MAX], err[TEXT_MAX];

	expect(self, "release --all", REFUSED, "",
	       "kosctl: nothing is in quarantine for it (No such file or directory)\n");
	expect(self, "release @BDF", REFUSED, "",
	       "kosctl: nothing is in quarantine for it (No such file or directory)\n");
	IN_CHILD {
		probe_become_nobody();
		expect(self, "release --all", REFUSED, "",
		       "kosctl: it takes CAP_SYS_ADMIN in the initial user namespace, of the sender and of who opened the socket (Operation not permitted)\n");
		EXPECT_EQ(REFUSED, run(self, "monitor", out, err));
		EXPECT_EQ(0, strncmp(err, "kosctl: events are for CAP_SYS_ADMIN", 36));
	}
}

#define STAT_HEAD                                                                                  \
	"   pages   linger  quarant  iova-kB      buf      map      acc      dom      reg      hdl"    \
	"     maps   begins    place  unplace   revoke   refuse    fault\n"
#define N "[0-9]*"

TEST_F(kosctl, stat_prints_text_and_json)
{
	static char out[TEXT_MAX], err[TEXT_MAX], command[512];
	const char *line;
	size_t len;
	int lines = 0;
	FILE *f;

	EXPECT_EQ(DONE, run(self, "stat -j", out, err));
	EXPECT_EQ(0, fnmatch("{\"pages\":0,\"lingering_pages\":0,\"quarantined_pages\":0,"
			     "\"iova_bytes\":0,\"buffers\":0,\"mappings\":0,\"accesses\":0,"
			     "\"domains\":0,\"regions\":0,\"handles\":0,\"maps\":" N
			     ",\"begins\":" N ",\"places\":" N ",\"unplaces\":" N
			     ",\"revokes\":" N ",\"refusals\":" N ",\"faults\":" N "}\n",
			     out, 0));
	EXPECT_EQ(DONE, run(self, "stat", out, err));
	EXPECT_EQ(0, strncmp(out, STAT_HEAD, strlen(STAT_HEAD)));
	snprintf(command, sizeof(command), "timeout 4 %s stat -w 1", self->program);
	f = popen(command, "re");
	ASSERT_NOT_NULL(f);
	len = fread(out, 1, TEXT_MAX - 1, f);
	out[len] = '\0';
	pclose(f);
	EXPECT_EQ(0, strncmp(out, STAT_HEAD, strlen(STAT_HEAD)));
	for (line = out + strlen(STAT_HEAD); *line; line += strlen(STAT_HEAD)) {
		/* All are as wide as their heads. */
		ASSERT_GE(strlen(line), strlen(STAT_HEAD));
		EXPECT_EQ(strlen(STAT_HEAD) - 1, strspn(line, " 0123456789"));
		/* Rates, since the second line: nobody did anything. */
		if (lines++)
			EXPECT_NULL(memchr(line + 9 * 10, '1', 9 * 7));
	}
	EXPECT_GE(lines, 2);
}

/* ---- events ---- */

/* A monitor that runs beside the test. */
struct monitor {
	pid_t pid;
	FILE *files[2];
	char out[TEXT_MAX], err[TEXT_MAX]; /* what it printed last, as far as there is room */
};

static void monitor_read(struct monitor *monitor)
{
	char *texts[2] = { monitor->out, monitor->err };

	for (int i = 0; i < 2; i++) {
		off_t end = lseek(fileno(monitor->files[i]), 0, SEEK_END);
		off_t begin = end > TEXT_MAX - 1 ? end - (TEXT_MAX - 1) : 0;
		ssize_t len = pread(fileno(monitor->files[i]), texts[i], TEXT_MAX - 1, begin);

		texts[i][len > 0 ? len : 0] = '\0';
	}
}

static bool monitor_matches(struct monitor *monitor, const char *out, const char *err)
{
	monitor_read(monitor);
	return !fnmatch(out, monitor->out, 0) && !fnmatch(err, monitor->err, 0);
}

/* Its output matches, within ten seconds. */
static bool monitor_shows(struct monitor *monitor, const char *out, const char *err)
{
	bool matches = false;

	for (int i = 0; i < 100 && !matches; i++) {
		matches = monitor_matches(monitor, out, err);
		if (!matches)
			usleep(100 * 1000);
	}
	return matches;
}

/* @poor: its socket has no more room than anybody's. */
static void monitor_start(const struct fixture_data_kosctl *self, struct monitor *monitor,
			  const char *option, bool poor)
{
	for (int i = 0; i < 2; i++) {
		monitor->files[i] = tmpfile();
		ASSERT_NOT_NULL(monitor->files[i]);
		/* Both of us have this offset; it writes at the end. */
		fcntl(fileno(monitor->files[i]), F_SETFL, O_APPEND);
	}
	monitor->pid = test_fork();
	if (!monitor->pid) {
		dup2(fileno(monitor->files[0]), STDOUT_FILENO);
		dup2(fileno(monitor->files[1]), STDERR_FILENO);
		if (poor)
			prctl(PR_CAPBSET_DROP, CAP_NET_ADMIN);
		execlp(self->program, self->program, "monitor", option, NULL);
		_exit(127);
	}
	/* On a busy machine its start takes long; the test's own time ends this, or its end. */
	for (;;) {
		monitor_read(monitor);
		if (monitor->out[0])
			return;
		if (waitpid(monitor->pid, NULL, WNOHANG)) {
			test_log("the monitor ended: %s", monitor->err);
			ASSERT_TRUE(false);
		}
		ASSERT_OK(KnHandleClose(domain_create()));
		usleep(100 * 1000);
	}
}

static void monitor_stop(struct monitor *monitor)
{
	int status;

	kill(monitor->pid, SIGTERM);
	ASSERT_EQ(monitor->pid, waitpid(monitor->pid, &status, 0));
	EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM);
	for (int i = 0; i < 2; i++)
		fclose(monitor->files[i]);
}

#define TIME "[[]*[0-9].[0-9][0-9][0-9][0-9][0-9][0-9]] "

TEST_F(kosctl, monitor_prints_events_in_order)
{
	static struct monitor monitor;
	static char wanted[TEXT_MAX], out[TEXT_MAX], err[TEXT_MAX];
	int held;

	monitor_start(self, &monitor, NULL, false);
	expect(self, "bind @BDF", DONE, NULL, NULL);
	hold(self);
	held = self->holder;
	/* Held by another process. */
	EXPECT_NE(rcOk, KnIommuAttachDevice(self->edu.bdf));
	probe_signal(self->sync[0]);
	test_wait(self->holder);
	/* It is given back after its end. */
	snprintf(out, sizeof(out), "*\n" TIME "end        domain " N " pid %d uid 0\n*", held);
	EXPECT_TRUE(monitor_shows(&monitor, out, ""));
	expect(self, "unbind @BDF", DONE, NULL, NULL);
	snprintf(out, sizeof(out),
		 "*" TIME "bind       @BDF\n"
		 "*" TIME "attach     @BDF domain " N " pid %d uid 0\n"
		 "*" TIME "refuse     @BDF pid %d uid 0: Device or resource busy\n"
		 "*" TIME "detach     @BDF domain " N " pid %d uid 0\n"
		 "*" TIME "end        domain " N " pid %d uid 0\n"
		 "*" TIME "unbind     @BDF\n*",
		 held, getpid(), held, held);
	expand(self, out, wanted);
	EXPECT_TRUE(monitor_shows(&monitor, wanted, ""));
	monitor_stop(&monitor);

	/* Those of devices are kept; this is what they are in JSON. */
	monitor_start(self, &monitor, "--since-boot", false);
	expand(self, "*" TIME "bind       @BDF\n*" TIME "unbind     @BDF\n*", wanted);
	EXPECT_TRUE(monitor_shows(&monitor, wanted, ""));
	monitor_stop(&monitor);
	monitor_start(self, &monitor, "-j", false);
	expect(self, "bind @BDF", DONE, NULL, NULL);
	expand(self,
	       "{\"time_ns\":" N ",\"event\":\"create\",\"type\":\"domain\",\"sid\":" N
	       ",\"bdf\":null,\"pid\":" N ",\"uid\":0,\"pages\":null,\"error\":null}\n"
	       "*{\"time_ns\":" N ",\"event\":\"bind\",\"type\":null,\"sid\":null,"
	       "\"bdf\":\"@BDF\",\"pid\":null,\"uid\":null,\"pages\":null,\"error\":null}\n*",
	       wanted);
	EXPECT_TRUE(monitor_shows(&monitor, wanted, ""));
	parse_json(monitor.out);
	monitor_stop(&monitor);
	EXPECT_EQ(USAGE, run(self, "monitor now", out, err));
}

TEST_F(kosctl, monitor_starts_while_events_come)
{
	static struct monitor monitor;
	pid_t child = test_fork();
	int status;

	if (!child) {
		for (;;)
			ASSERT_OK(KnHandleClose(domain_create()));
	}
	for (int i = 0; i < 5; i++) {
		monitor_start(self, &monitor, NULL, false);
		EXPECT_STREQ("", monitor.err);
		monitor_stop(&monitor);
	}
	ASSERT_EQ(0, kill(child, SIGKILL));
	ASSERT_EQ(child, waitpid(child, &status, 0));
}

/* Stopped, it reads nothing; nobody waits for it, and later it says what it missed. */
TEST_F(kosctl, monitor_that_is_too_slow_says_so_and_goes_on)
{
	static const char lost[] =
		"kosctl: events were lost: they come faster than they are read\n*";
	static const char in_json[] = "*\"event\":\"end\",\"type\":\"buffer\"*}\n";
	static const char in_text[] = "* end        buffer *\n";
	static struct monitor monitor;
	char room[32];
	int tries;
	FILE *f = fopen(RMEM_MAX, "re");

	ASSERT_NOT_NULL(f);
	ASSERT_NOT_NULL(fgets(room, sizeof(room), f));
	fclose(f);
	/* Newer kernels have more. */
	ASSERT_TRUE(probe_write_file(RMEM_MAX, "212992"));

	for (int json = 0; json < 2; json++) {
		monitor_start(self, &monitor, json ? "-j" : NULL, true);
		ASSERT_EQ(0, kill(monitor.pid, SIGSTOP));
		for (int i = 0; i < 6000; i++)
			ASSERT_OK(KnHandleClose(domain_create()));
		ASSERT_EQ(0, kill(monitor.pid, SIGCONT));
		EXPECT_TRUE(monitor_shows(&monitor, "*", lost));
		/* What comes before it has caught up is lost, too. */
		for (tries = 0; tries < 100; tries++) {
			EXPECT_OK(KnHandleClose(buffer_create(0, PAGE, 0)));
			usleep(100 * 1000);
			if (monitor_matches(&monitor, json ? in_json : in_text, lost))
				break;
		}
		EXPECT_LT(tries, 100);
		monitor_stop(&monitor);
	}
	EXPECT_TRUE(probe_write_file(RMEM_MAX, room));
}

/* ---- terminals and namespaces ---- */

/* What kosctl prints on a terminal. */
static void run_on_terminal(const struct fixture_data_kosctl *self, const char *variable,
			    char out[TEXT_MAX])
{
	int terminal = posix_openpt(O_RDWR | O_NOCTTY), status;
	size_t len = 0;
	ssize_t n;
	pid_t pid;

	ASSERT_GE(terminal, 0);
	ASSERT_EQ(0, grantpt(terminal));
	ASSERT_EQ(0, unlockpt(terminal));
	pid = test_fork();
	if (!pid) {
		int fd = open(ptsname(terminal), O_RDWR | O_NOCTTY);

		dup2(fd, STDOUT_FILENO);
		putenv("TERM=xterm");
		putenv(strdup(variable));
		execlp(self->program, self->program, "grants", NULL);
		_exit(127);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
	fcntl(terminal, F_SETFL, O_NONBLOCK);
	while ((n = read(terminal, out + len, TEXT_MAX - 1 - len)) > 0)
		len += n;
	out[len] = '\0';
	close(terminal);
}

TEST_F(kosctl, colours_are_for_terminals_only)
{
	static char out[TEXT_MAX], err[TEXT_MAX];

	run_on_terminal(self, "A=b", out);
	EXPECT_STREQ("\033[1mBDF  KIND  ID  NAME\033[0m\r\n", out);
	run_on_terminal(self, "NO_COLOR=1", out);
	EXPECT_STREQ("BDF  KIND  ID  NAME\r\n", out);
	run_on_terminal(self, "TERM=dumb", out);
	EXPECT_STREQ("BDF  KIND  ID  NAME\r\n", out);
	putenv("TERM=xterm");
	EXPECT_EQ(DONE, run(self, "grants", out, err));
	EXPECT_STREQ("BDF  KIND  ID  NAME\n", out);
}

/* unshare -Ur or -Urn of an ordinary user: root in there. */
static void become_root_of_a_namespace(int more)
{
	char map[32];

	probe_become_nobody();
	ASSERT_EQ(0, prctl(PR_SET_DUMPABLE, 1));
	if (unshare(CLONE_NEWUSER | more))
		SKIP("user namespaces are not for ordinary users here");
	snprintf(map, sizeof(map), "0 %d 1", NOBODY);
	ASSERT_TRUE(probe_write_file("/proc/self/setgroups", "deny"));
	ASSERT_TRUE(probe_write_file("/proc/self/uid_map", map));
}

TEST_F(kosctl, root_of_a_namespace_sees_its_own_and_administers_nothing)
{
	static char out[TEXT_MAX], err[TEXT_MAX];
	Handle buffer = buffer_create(0, PAGE, 0);

	expect(self, "bind @BDF", DONE, NULL, NULL);
	IN_CHILD {
		become_root_of_a_namespace(0);
		expect(self, "list buffers -j", DONE, "[\n]\n", "");
		expect(self, "tree", DONE, "", "");
		buffer_create(0, PAGE, 0);
		EXPECT_EQ(DONE, run(self, "list buffers -j", out, err));
		EXPECT_EQ(0, fnmatch("[[]\n{\"sid\":2,\"pid\":*,\"uid\":0,*}\n]\n", out, 0));
		expect(self, "grant @BDF --user 1", REFUSED, "",
		       "kosctl: it takes CAP_SYS_ADMIN in the initial user namespace, of the sender and of who opened the socket (Operation not permitted)\n");
		EXPECT_EQ(REFUSED, run(self, "release --all", out, err));
		EXPECT_EQ(REFUSED, run(self, "monitor", out, err));
		expect(self, "bind 00:00.0", REFUSED, NULL, NULL);
		/* The number of a user that a grant must name is not that in here. */
		EXPECT_EQ(REFUSED, run(self, "why 00:08.0", out, err));
		EXPECT_NOT_NULL(strstr(out, " --user 65534\n"));
		EXPECT_EQ(DONE, run(self, "stat -j", out, err));
		EXPECT_EQ(DONE, run(self, "list devices -j", out, err));
	}
	IN_CHILD {
		become_root_of_a_namespace(CLONE_NEWNET);
		expect(self, "list buffers", NO_MODULE, "",
		       "kosctl: kosdma is not loaded, or this is not the initial network namespace\n");
		expect(self, "monitor", NO_MODULE, "", NULL);
		expect(self, "stat", NO_MODULE, "", NULL);
	}
	ASSERT_OK(KnHandleClose(buffer));
}

/* ---- quarantine ---- */

static void leave_unquiet(struct fixture_data_kosctl *self)
{
	struct begun b;

	ASSERT_OK(KnIommuAttachDevice(self->edu.bdf));
	begun_open(&b, PAGES(16), INVALID_HANDLE);
	begun_close(&b);
	ASSERT_TRUE(probe_write_file(UNQUIET, "1"));
	ASSERT_OK(KnIommuDetachDevice(self->edu.bdf));
	ASSERT_TRUE(probe_write_file(UNQUIET, "0"));
}

TEST_F(kosctl, pages_in_quarantine_are_listed_and_released)
{
	static struct monitor monitor;
	static char wanted[TEXT_MAX], table[256];
	int width; /* of the column that has our number */

	if (access(UNQUIET, W_OK))
		SKIP("this is not the test build of the module");
	if (edu_translated(&self->edu))
		SKIP("an IOMMU cuts the device off, quiet or not");
	expect(self, "bind @BDF", DONE, NULL, NULL);
	monitor_start(self, &monitor, NULL, false);
	self->holder = getpid();
	leave_unquiet(self);
	EXPECT_EQ(16, probe_quarantined());
	width = snprintf(table, sizeof(table), "%d", getpid());
	width = width < 3 ? 3 : width;
	snprintf(table, sizeof(table),
		 "SID  %-*s  UID  BUFFER  PAGES  BDF\n"
		 "3    %-*d  0    2       16     @BDF\n",
		 width, "PID", width, getpid());
	expect(self, "list quarantine", DONE, table, "");
	expect(self, "list quarantine -j --bdf @BDF", DONE,
	       "[\n{\"sid\":3,\"pid\":@PID,\"uid\":0,\"buffer\":2,\"pages\":16,\"bdf\":\"@BDF\"}\n]\n",
	       "");
	expect(self, "list quarantine -j --bdf ff:1f.6", DONE, "[\n]\n", "");
	expect(self, "list accesses -j", DONE, NULL, "");
	expect(self, "who @BDF -j", DONE,
	       "[\n{\"object\":\"buffer 2\",\"who\":\"device @BDF\",\"may\":[\"read\",\"write\"],\"through\":\"quarantined access 3\"}\n]\n",
	       "");
	expect(self, "release ff:1f.6", REFUSED, "",
	       "kosctl: nothing is in quarantine for it (No such file or directory)\n");
	EXPECT_EQ(16, probe_quarantined());
	expect(self, "release @BDF", DONE, "16 pages released\n", "");
	EXPECT_EQ(0, probe_quarantined());
	expect(self, "list quarantine -j", DONE, "[\n]\n", "");
	leave_unquiet(self);
	expect(self, "release --all", DONE, "16 pages released\n", "");
	EXPECT_EQ(0, probe_quarantined());
	expand(self, "*" TIME "quarantine @BDF 16 pages\n*" TIME "release    @BDF 16 pages\n*",
	       wanted);
	EXPECT_TRUE(monitor_shows(&monitor, wanted, ""));
	monitor_stop(&monitor);
}

/* ---- disks ---- */

/* Only a disk that was made for this, as its serial number says, is erased. */
static const char *scratch_disk(char path[64])
{
	ssize_t len;
	char link[256], serial[64] = "", *slash;
	FILE *f;

	if (access("/dev/nvme0n1", F_OK))
		modprobe("nvme");
	for (int i = 0; i < 50 && access("/dev/nvme0n1", F_OK); i++)
		usleep(100000);
	f = fopen("/sys/class/nvme/nvme0/serial", "re");
	if (!f)
		return NULL;
	if (!fgets(serial, sizeof(serial), f))
		serial[0] = '\0';
	fclose(f);
	if (strncmp(serial, "kosdma-scratch", 14))
		return NULL;
	len = readlink("/sys/class/nvme/nvme0/device", link, sizeof(link) - 1);
	if (len <= 0)
		return NULL;
	link[len] = '\0';
	slash = strrchr(link, '/');
	snprintf(path, 64, "%.63s", slash + 1);
	return path;
}

TEST_F(kosctl, bind_names_the_mounted_disk_behind_a_device)
{
	static char line[128], out[TEXT_MAX], err[TEXT_MAX];
	const char *bdf;
	char name[64];

	bdf = scratch_disk(name);
	if (!bdf)
		SKIP("needs an nvme disk with the serial number kosdma-scratch");
	if (system("mke2fs /dev/nvme0n1 >/dev/null 2>&1") || mkdir("/run/disk", 0700) ||
	    mount("/dev/nvme0n1", "/run/disk", "ext2", 0, NULL))
		SKIP("needs ext2");
	snprintf(line, sizeof(line), "bind %s", bdf);
	EXPECT_EQ(REFUSED, run(self, line, out, err));
	EXPECT_NOT_NULL(strstr(err, "driver nvme has it\n"));
	EXPECT_NOT_NULL(strstr(err, "kosctl: nvme0n1 is in use: it is mounted or swapped on\n"));
	EXPECT_STREQ("", out);
	EXPECT_ERRNO(0, umount("/run/disk"));
	rmdir("/run/disk");
	EXPECT_EQ(REFUSED, run(self, line, out, err));
	EXPECT_NULL(strstr(err, "mounted"));
}

TEST_HARNESS_MAIN
