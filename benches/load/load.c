// load.c: what a task does, timed by itself: `load KIND FOLDER` prints nanoseconds per operation.
//   cpu      a loop of arithmetic (a million rounds are one operation)
//   getpid   the cheapest system call
//   write    4 KiB into a file of FOLDER, 16 MiB over and over, nothing synced
//   read     4 KiB out of that file, from the page cache
//   spawn    fork, execve of this program's `nothing`, wait
//   tcp      one byte to a server on the loopback and back
// `load lines MEBIBYTES` writes so much in 64-byte lines to standard output, in blocks as stdio writes them, and prints
// to standard error how many MB a second it came to.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void check(int good, const char *what) {
    if (!good) { perror(what); exit(1); }
}
static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e9 + t.tv_nsec;
}
static char block[4096];
static int file = -1, wire = -1;
static char *own;

static void cpu(int n) {
    volatile uint64_t sink;
    uint64_t x = 88172645463325252ULL;
    for (int i = 0; i < n; i++)
        for (int k = 0; k < 1000000; k++) { x ^= x << 13; x ^= x >> 7; x ^= x << 17; }
    sink = x;
    (void)sink;
}
static void pid(int n) { for (int i = 0; i < n; i++) syscall(SYS_getpid); }
static void put(int n) { for (int i = 0; i < n; i++) check(pwrite(file, block, 4096, (i % 4096) * 4096L) == 4096, "pwrite"); }
static void get(int n) { for (int i = 0; i < n; i++) check(pread(file, block, 4096, (i % 4096) * 4096L) == 4096, "pread"); }
static void spawn(int n) {
    for (int i = 0; i < n; i++) {
        pid_t child = fork();
        check(child >= 0, "fork");
        if (child == 0) { execl(own, own, "nothing", (char *)0); _exit(127); }
        int status;
        waitpid(child, &status, 0);
        check(status == 0, "execve");
    }
}
static void tcp(int n) {
    char byte = 1;
    for (int i = 0; i < n; i++) check(write(wire, &byte, 1) == 1 && read(wire, &byte, 1) == 1, "tcp");
}
static void lines(long mebibytes) {
    static char page[65536];
    const long blocks = mebibytes * 16;
    for (unsigned i = 0; i < sizeof page; i++) page[i] = i % 64 == 63 ? '\n' : 'a' + i % 26;
    double begun = now();
    for (long i = 0; i < blocks; i++)
        for (size_t done = 0; done < sizeof page;) {
            ssize_t n = write(1, page + done, sizeof page - done);
            check(n > 0, "write");
            done += n;
        }
    fprintf(stderr, "%.1f\n", blocks * sizeof page * 1e3 / (now() - begun));
}
// Both ends on one processor: else the figure is how the scheduler happened to place them.
static void stay_here(void) {
    cpu_set_t here;
    CPU_ZERO(&here);
    CPU_SET(sched_getcpu(), &here);
    check(!sched_setaffinity(0, sizeof here, &here), "sched_setaffinity");
}
static void connect_echo(void) {
    stay_here();
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof a;
    int one = 1, server = socket(AF_INET, SOCK_STREAM, 0);
    check(server >= 0 && !bind(server, (void *)&a, sizeof a) && !listen(server, 1), "listen");
    getsockname(server, (void *)&a, &length);
    if (fork() == 0) {
        int peer = accept(server, 0, 0);
        char byte;
        setsockopt(peer, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        while (read(peer, &byte, 1) == 1 && write(peer, &byte, 1) == 1) {}
        _exit(0);
    }
    wire = socket(AF_INET, SOCK_STREAM, 0);
    check(!connect(wire, (void *)&a, sizeof a), "connect");
    setsockopt(wire, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
}

int main(int count, char **words) {
    static const struct { const char *name; void (*run)(int); int n; } kinds[] = {
        {"cpu", cpu, 10}, {"getpid", pid, 400000}, {"write", put, 16384},
        {"read", get, 65536}, {"spawn", spawn, 60}, {"tcp", tcp, 3000}};
    if (count == 2 && !strcmp(words[1], "nothing")) return 0;
    if (count != 3) { fprintf(stderr, "usage: load KIND FOLDER, load lines MEBIBYTES\n"); return 2; }
    if (!strcmp(words[1], "lines")) { lines(atol(words[2])); return 0; }
    own = words[0];
    char path[4096];
    snprintf(path, sizeof path, "%s/bivouac-bench-load", words[2]);
    for (unsigned k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        if (strcmp(kinds[k].name, words[1])) continue;
        if (!strcmp(words[1], "write") || !strcmp(words[1], "read")) {
            file = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
            check(file >= 0, path);
            unlink(path);
            put(4096);
        }
        if (!strcmp(words[1], "tcp")) connect_echo();
        double best = 1e300;
        for (int turn = 0; turn < 5; turn++) {
            double begun = now();
            kinds[k].run(kinds[k].n);
            double took = (now() - begun) / kinds[k].n;
            if (took < best) best = took;
        }
        printf("%.2f\n", best);
        return 0;
    }
    fprintf(stderr, "load knows no `%s`\n", words[1]);
    return 2;
}
