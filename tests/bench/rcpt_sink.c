/* A mail host as fast as one can be had, so that a benchmark measures its clients.

   rcpt_sink ADDRESS...   listens on every ADDRESS (127.x.y.z), on one free port, which it prints. Mailboxes `user*`
   exist. For each line on stdin it prints what it saw since the last one, as JSON; it ends with its stdin. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { FILES = 65536, EVENTS = 256, INPUT = 16384, OUTPUT = 262144, TRIES = 20, LONGEST = 512 };
struct connection { int host, used, quit, refused; char input[INPUT]; };

static struct connection *open_ones[FILES];
static int host_of[FILES]; /* of listeners: 1 + index */
static int *open_at, peak, worst, poll_fd; /* peak: connections to one host; worst: refusals in one */
static long connections, recipients, refused, rude;
static char output[OUTPUT];

static void die(const char *what) { perror(what); exit(1); }

static void watch(int fd) {
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
    if (epoll_ctl(poll_fd, EPOLL_CTL_ADD, fd, &event)) die("epoll_ctl");
}

static int listener(const char *address, int port) {
    struct sockaddr_in place = {.sin_family = AF_INET, .sin_port = htons(port)};
    int yes = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (fd < 0 || !inet_aton(address, &place.sin_addr)) die(address);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (!bind(fd, (struct sockaddr *)&place, sizeof place) && !listen(fd, 1024)) return fd;
    close(fd);
    return -1;
}

/* One port that is free on all addresses. */
static int listen_everywhere(int count, char **addresses) {
    for (int attempt = 0; attempt < TRIES; attempt++) {
        struct sockaddr_in place;
        socklen_t size = sizeof place;
        int fds[FILES], port = 0, ready = 0;
        for (; ready < count && (fds[ready] = listener(addresses[ready], port)) >= 0; ready++)
            if (!ready && !getsockname(fds[0], (struct sockaddr *)&place, &size)) port = ntohs(place.sin_port);
        if (ready == count) {
            for (int index = 0; index < count; index++) host_of[fds[index]] = index + 1, watch(fds[index]);
            return port;
        }
        while (ready) close(fds[--ready]);
    }
    die("no port is free on all addresses");
    return 0;
}

static void finish(int fd) {
    rude += !open_ones[fd]->quit;
    open_at[open_ones[fd]->host]--;
    free(open_ones[fd]);
    open_ones[fd] = NULL;
    close(fd);
}

static void welcome(int at) {
    static const char banner[] = "220 sink.bench.test ESMTP\r\n";
    int yes = 1, host = host_of[at] - 1, fd;
    while ((fd = accept4(at, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
        if (fd >= FILES || !(open_ones[fd] = calloc(1, sizeof(struct connection)))) die("too many connections");
        open_ones[fd]->host = host;
        connections++;
        if (++open_at[host] > peak) peak = open_at[host];
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
        watch(fd);
        if (write(fd, banner, sizeof banner - 1) < 0) finish(fd);
    }
}

/* The reply to one line (without its LF), written to `out`; its end. */
static char *reply(struct connection *from, const char *line, const char *end, char *out) {
    if (!strncmp(line, "RCPT TO:<", 9)) {
        recipients++;
        if (!strncmp(line + 9, "user", 4)) return stpcpy(out, "250 2.1.5 Ok\r\n");
        refused++;
        if (++from->refused > worst) worst = from->refused;
        out = stpcpy(out, "550 5.1.1 ");
        out = mempcpy(out, line + 8, end - line - 9); /* <address>, without the CR */
        return stpcpy(out, ": Recipient address rejected: no such user\r\n");
    }
    if (!strncmp(line, "EHLO ", 5))
        return stpcpy(out, "250-sink.bench.test\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 ENHANCEDSTATUSCODES\r\n");
    if (!strncmp(line, "MAIL FROM:<", 11) || !strncmp(line, "RSET", 4)) return stpcpy(out, "250 2.0.0 Ok\r\n");
    if (!strncmp(line, "QUIT", 4)) {
        from->quit = 1;
        return stpcpy(out, "221 2.0.0 Bye\r\n");
    }
    rude++;
    return stpcpy(out, "502 5.5.2 What?\r\n");
}

static void hear(int fd) {
    struct connection *from = open_ones[fd];
    ssize_t got = read(fd, from->input + from->used, INPUT - from->used);
    if (got <= 0) {
        if (got == 0 || errno != EAGAIN) finish(fd);
        return;
    }
    char *line = from->input, *stop = line + from->used + got, *end, *out = output;
    while (!from->quit && (end = memchr(line, '\n', stop - line))) {
        if (end - line > LONGEST || output + OUTPUT - out < 2 * LONGEST) die("a flight too long");
        out = reply(from, line, end, out);
        line = end + 1;
    }
    from->used = stop - line;
    if (from->used == INPUT) die("a line too long");
    memmove(from->input, line, from->used);
    if (out > output && write(fd, output, out - output) != out - output) die("a peer that does not read");
    if (from->quit) finish(fd);
}

static void report(void) {
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    double cpu = used.ru_utime.tv_sec + used.ru_stime.tv_sec + (used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
    printf("{\"connections\": %ld, \"recipients\": %ld, \"refused\": %ld, \"rude\": %ld, ", connections, recipients,
           refused, rude);
    printf("\"peak\": %d, \"worst\": %d, \"cpu\": %f}\n", peak, worst, cpu);
    fflush(stdout);
    connections = recipients = refused = rude = peak = worst = 0;
}

int main(int count, char **arguments) {
    struct epoll_event events[EVENTS];
    char asked[64];
    if (!(open_at = calloc(count, sizeof *open_at))) die("calloc");
    if ((poll_fd = epoll_create1(0)) < 0) die("epoll_create1");
    printf("%d\n", listen_everywhere(count - 1, arguments + 1));
    fflush(stdout);
    watch(0);
    for (;;) {
        int ready = epoll_wait(poll_fd, events, EVENTS, -1);
        if (ready < 0 && errno != EINTR) die("epoll_wait");
        for (int index = 0; index < ready; index++) {
            int fd = events[index].data.fd;
            if (fd == 0) {
                if (read(0, asked, sizeof asked) <= 0) return 0;
                report();
            } else if (host_of[fd])
                welcome(fd);
            else
                hear(fd);
        }
    }
}
