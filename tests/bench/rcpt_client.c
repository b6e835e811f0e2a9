/* The yardstick: RCPT as fast as one thread of C asks it, in the manner of the probe engine.

   rcpt_client PORT SLOTS FLIGHT RECIPIENTS REFUSALS   asks what stdin lists: `@127.x.y.z`, a mail host, and after it
   one address a line. Up to SLOTS connections at once to a host, each with up to RECIPIENTS recipients in pipelined
   flights of FLIGHT. With REFUSALS flights are smaller, so that a session hardly has more of them than that (0: however
   many). Then RSET and QUIT, and the connection counts until the host has closed it. Prints what it found, as JSON.
   Any surprise ends it with status 1. */
#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { INPUT = 65536, EVENTS = 256, LONGEST = 512 };
enum { FIRST_FLIGHT = 9, WORTHWHILE = 4, GRAIN = 64, MOST_SLACK = 64 }; /* what they mean: validator/smtp/pace.py */
static const double ODDS = 7e-4;
enum phase { BANNER, HELLO, ASKING, LEAVING };
struct host { struct in_addr place; long next, end, asked, refused; };
struct connection {
    struct host *host;
    enum phase phase;
    int fd, before, due, asked, refused, used; /* before: replies due that are not about a recipient; due: all */
    char input[INPUT];
};

static struct { int port, slots, flight, recipients, refusals; } told;
static char **addresses;
static int poll_fd, running;
static long valid, invalid, sessions, flights;

static void die(const char *what) { fprintf(stderr, "%s: %s\n", what, strerror(errno)); exit(1); }

static void say(struct connection *one, const char *words, size_t length) {
    if (write(one->fd, words, length) != (ssize_t)length) die("write");
}

static void dial(struct connection *one) {
    struct sockaddr_in place = {.sin_family = AF_INET, .sin_port = htons(told.port), .sin_addr = one->host->place};
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = one};
    int yes = 1;
    one->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (one->fd < 0 || connect(one->fd, (struct sockaddr *)&place, sizeof place)) die("connect");
    if (fcntl(one->fd, F_SETFL, O_NONBLOCK)) die("fcntl");
    setsockopt(one->fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    if (epoll_ctl(poll_fd, EPOLL_CTL_ADD, one->fd, &event)) die("epoll_ctl");
    one->phase = BANNER;
    one->due = 1;
    one->before = one->asked = one->refused = one->used = 0;
    sessions++;
}

static int least(int one, int other) { return one < other ? one : other; }

/* The most recipients of which hardly more than `slack` are refused, each with a chance of `risk` in GRAIN. */
static int safe_flight(int slack, int risk) {
    static int known[MOST_SLACK + 1][GRAIN + 1];
    int *size = &known[slack][risk];
    double chance = (double)risk / GRAIN;
    if (*size) return *size;
    for (*size = slack; *size < told.flight; ++*size) {
        double within = 0, ways = 1;
        for (int k = 0; k <= slack; ways = ways * (*size + 1 - k) / (k + 1), k++)
            within += ways * pow(chance, k) * pow(1 - chance, *size + 1 - k);
        if (1 - within > ODDS) break;
    }
    return *size;
}

/* Recipients of the next flight; none: the session should end. */
static int size_of_flight(const struct connection *one) {
    const struct host *host = one->host;
    int slack = told.refusals + 1 - one->refused, room = least(told.recipients - one->asked, host->end - host->next);
    if (!told.refusals) return least(told.flight, room);
    if (slack <= 1) return 0;
    if (!one->asked) return least(least(FIRST_FLIGHT, told.flight), room);
    int risk = least(GRAIN, (int)ceil((host->refused + 1.0) / (host->asked + 3.0) * GRAIN));
    int bearable = safe_flight(least(slack, MOST_SLACK), risk);
    return bearable < least(WORTHWHILE, room) ? 0 : least(least(told.flight, bearable), room);
}

/* The next flight of this session, or its end; both when the end can be foreseen. */
static void ask(struct connection *one) {
    static char words[1 << 18];
    char *out = words;
    struct host *host = one->host;
    int count = size_of_flight(one);
    one->before = count && !one->asked;
    if (one->before) out = stpcpy(out, "MAIL FROM:<>\r\n");
    for (int index = 0; index < count; index++) {
        out = stpcpy(stpcpy(stpcpy(out, "RCPT TO:<"), addresses[host->next++]), ">\r\n");
        if (out - words > (long)sizeof words - LONGEST) die("a flight too long");
    }
    one->asked += count;
    one->due = one->before + count;
    one->phase = ASKING;
    flights += count > 0;
    if (!count || one->asked == told.recipients || host->next == host->end) {
        out = stpcpy(out, "RSET\r\nQUIT\r\n");
        one->due += 2;
        one->phase = LEAVING;
    }
    say(one, words, out - words);
}

static void take(struct connection *one, int code) {
    int about_us = one->before > 0 || (one->phase == LEAVING && one->due <= 2) || one->phase < ASKING;
    one->before -= one->before > 0;
    if (about_us) {
        if (code / 100 != 2) die("a host that does not want us");
    } else if (code == 250)
        valid++, one->host->asked++;
    else if (code == 550)
        invalid++, one->refused++, one->host->asked++, one->host->refused++;
    else
        die("an answer that is none");
    if (--one->due) return;
    if (one->phase == BANNER) {
        one->phase = HELLO;
        one->due = 1;
        say(one, "EHLO probe.test\r\n", 17);
    } else if (one->phase != LEAVING)
        ask(one);
}

static void hear(struct connection *one) {
    ssize_t got = read(one->fd, one->input + one->used, INPUT - one->used);
    if (got < 0 && errno == EAGAIN) return;
    if (got < 0 || (got == 0 && (one->phase != LEAVING || one->due))) die("a connection lost");
    if (got == 0) {
        close(one->fd);
        if (one->host->next < one->host->end)
            dial(one);
        else
            running--;
        return;
    }
    char *line = one->input, *stop = line + one->used + got, *end;
    for (; (end = memchr(line, '\n', stop - line)); line = end + 1)
        if (end - line >= 4 && isdigit(line[0]) && line[3] != '-') { /* the last line of a reply */
            if (!one->due) die("a reply to nothing");
            take(one, (line[0] - '0') * 100 + (line[1] - '0') * 10 + line[2] - '0');
        }
    one->used = stop - line;
    if (one->used == INPUT) die("a line too long");
    memmove(one->input, line, one->used);
}

static long load(char *text, struct host **hosts) {
    long count = 0, known = 0, most = 1;
    for (char *at = text; (at = strchr(at, '\n')); at++) most++;
    addresses = malloc(most * sizeof *addresses);
    *hosts = malloc(most * sizeof **hosts);
    if (!addresses || !*hosts) die("malloc");
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n"))
        if (*line == '@') {
            (*hosts)[known] = (struct host){.next = count, .end = count};
            if (!inet_aton(line + 1, &(*hosts)[known++].place)) die(line);
        } else {
            if (!known || strlen(line) > LONGEST / 2) die(line);
            addresses[count++] = line;
            (*hosts)[known - 1].end = count;
        }
    return known;
}

static char *read_all(void) {
    size_t size = 1 << 20, used = 0;
    char *text = malloc(size);
    for (ssize_t got; text && (got = read(0, text + used, size - used - 1)) > 0; used += got)
        if (size - used - got < 2) text = realloc(text, size *= 2);
    if (!text) die("malloc");
    text[used] = 0;
    return text;
}

int main(int count, char **arguments) {
    struct epoll_event events[EVENTS];
    struct timespec from, to;
    struct rusage used;
    struct host *hosts;
    if (count != 6) die("usage: rcpt_client PORT SLOTS FLIGHT RECIPIENTS REFUSALS");
    for (int index = 0; index < 5; index++) ((int *)&told)[index] = atoi(arguments[index + 1]);
    char *text = read_all();
    clock_gettime(CLOCK_MONOTONIC, &from);
    long known = load(text, &hosts);
    if ((poll_fd = epoll_create1(0)) < 0) die("epoll_create1");
    for (int slot = 0; slot < told.slots; slot++)
        for (long index = 0; index < known; index++)
            if (hosts[index].end - hosts[index].next > slot * told.recipients) {
                struct connection *one = malloc(sizeof *one);
                if (!one) die("malloc");
                one->host = &hosts[index];
                running++;
                dial(one);
            }
    while (running) {
        int ready = epoll_wait(poll_fd, events, EVENTS, -1);
        if (ready < 0 && errno != EINTR) die("epoll_wait");
        for (int index = 0; index < ready; index++) hear(events[index].data.ptr);
    }
    clock_gettime(CLOCK_MONOTONIC, &to);
    getrusage(RUSAGE_SELF, &used);
    printf("{\"valid\": %ld, \"invalid\": %ld, \"sessions\": %ld, \"flights\": %ld, \"seconds\": %f, \"cpu\": %f}\n",
           valid, invalid, sessions, flights, to.tv_sec - from.tv_sec + (to.tv_nsec - from.tv_nsec) / 1e9,
           used.ru_utime.tv_sec + used.ru_stime.tv_sec + (used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6);
    return 0;
}
