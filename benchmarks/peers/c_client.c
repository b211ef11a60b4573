/* What the broker carries when the client costs next to nothing: librabbitmq, by hand.
 *
 *     c_client publish HOST PORT VHOST QUEUE TYPE COUNT WINDOW
 *     c_client publish-optional HOST PORT VHOST QUEUE TYPE COUNT WINDOW
 *     c_client consume HOST PORT VHOST QUEUE TYPE COUNT WINDOW
 *
 * publish  persistent, mandatory messages of 256 bytes; at most WINDOW unconfirmed.
 * publish-optional
 *          the same without the mandatory flag: the broker confirms a message to a queue
 *          that is missing, and drops it. Of the others only Celery takes that risk.
 * consume  fills the queue first, without confirms; then takes COUNT with a prefetch of
 *          WINDOW, and acks each half window with `multiple`.
 *
 * Prints one line of JSON, as every contender does.
 */

#include <amqp.h>
#include <amqp_tcp_socket.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#define BODY 256
#define MESSAGE_ID "0123456789abcdef0123456789abcdef"

static amqp_connection_state_t connection;
static amqp_bytes_t queue;
static char body[BODY];
static int is_mandatory = 1;

static void fail(const char *what) {
    fprintf(stderr, "c_client: %s\n", what);
    exit(1);
}

static void check(amqp_rpc_reply_t reply, const char *what) {
    if (reply.reply_type != AMQP_RESPONSE_NORMAL) fail(what);
}

static double wall_s(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec + now.tv_nsec / 1e9;
}

static double cpu_s(void) {
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    return used.ru_utime.tv_sec + used.ru_stime.tv_sec +
           (used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
}

static void open_connection(const char *host, int port, const char *vhost, const char *type) {
    connection = amqp_new_connection();
    amqp_socket_t *socket = amqp_tcp_socket_new(connection);
    if (!socket || amqp_socket_open(socket, host, port)) fail("cannot connect");
    check(amqp_login(connection, vhost, 0, 131072, 0, AMQP_SASL_METHOD_PLAIN, "guest", "guest"),
          "login");
    for (int channel = 1; channel <= 2; channel++) {
        amqp_channel_open(connection, channel);
        check(amqp_get_rpc_reply(connection), "channel");
    }
    amqp_table_entry_t entry = {
        .key = amqp_cstring_bytes("x-queue-type"),
        .value = {.kind = AMQP_FIELD_KIND_UTF8, .value.bytes = amqp_cstring_bytes(type)},
    };
    amqp_table_t arguments = {.num_entries = 1, .entries = &entry};
    amqp_queue_declare(connection, 1, queue, 0, 1, 0, 0, arguments);
    check(amqp_get_rpc_reply(connection), "declare");
}

static void send_one(int channel) {
    static amqp_basic_properties_t properties;
    properties._flags =
        AMQP_BASIC_CONTENT_TYPE_FLAG | AMQP_BASIC_DELIVERY_MODE_FLAG | AMQP_BASIC_MESSAGE_ID_FLAG;
    properties.content_type = amqp_cstring_bytes("application/json");
    properties.delivery_mode = AMQP_DELIVERY_PERSISTENT;
    properties.message_id = amqp_cstring_bytes(MESSAGE_ID);
    amqp_bytes_t content = {.len = BODY, .bytes = body};
    if (amqp_basic_publish(connection, channel, amqp_empty_bytes, queue, is_mandatory, 0,
                           &properties, content) != AMQP_STATUS_OK)
        fail("publish");
}

/* Confirms so far; the broker may confirm singly, and not in order. */
static struct {
    char *seen;
    uint64_t all_below;
    long count;
} confirmed;

static void confirm(uint64_t tag) {
    if (!confirmed.seen[tag]) confirmed.count++;
    confirmed.seen[tag] = 1;
}

static void wait_for_confirm(void) {
    amqp_frame_t frame;
    do {
        amqp_maybe_release_buffers(connection);
        if (amqp_simple_wait_frame(connection, &frame) != AMQP_STATUS_OK) fail("wait");
    } while (frame.frame_type != AMQP_FRAME_METHOD);
    if (frame.payload.method.id == AMQP_BASIC_RETURN_METHOD) fail("a message came back");
    if (frame.payload.method.id != AMQP_BASIC_ACK_METHOD) fail("no confirm");
    amqp_basic_ack_t *ack = frame.payload.method.decoded;
    if (!ack->multiple) {
        confirm(ack->delivery_tag);
        return;
    }
    while (confirmed.all_below < ack->delivery_tag) confirm(++confirmed.all_below);
}

static void publish(long count, long window) {
    amqp_confirm_select(connection, 1);
    check(amqp_get_rpc_reply(connection), "confirm");
    confirmed.seen = calloc(count + 1, 1);
    for (long sent = 1; sent <= count; sent++) {
        send_one(1);
        while (sent - confirmed.count >= window) wait_for_confirm();
    }
    while (confirmed.count < count) wait_for_confirm();
}

static void fill(long count) {
    for (long sent = 0; sent < count; sent++) send_one(2);
    amqp_queue_declare_ok_t *declared;
    do {
        struct timespec pause = {.tv_nsec = 50000000};
        nanosleep(&pause, NULL);
        declared = amqp_queue_declare(connection, 2, queue, 1, 1, 0, 0, amqp_empty_table);
        if (!declared) fail("depth");
    } while ((long)declared->message_count < count);
}

static void consume(long count, long window) {
    long unacked = 0;
    for (long taken = 0; taken < count; taken++) {
        amqp_envelope_t envelope;
        amqp_maybe_release_buffers(connection);
        check(amqp_consume_message(connection, &envelope, NULL, 0), "deliver");
        if (++unacked * 2 >= window || taken == count - 1) {
            if (amqp_basic_ack(connection, 1, envelope.delivery_tag, 1)) fail("ack");
            unacked = 0;
        }
        amqp_destroy_envelope(&envelope);
    }
}

int main(int argc, char **argv) {
    if (argc != 9) fail("CASE HOST PORT VHOST QUEUE TYPE COUNT WINDOW");
    long count = atol(argv[7]), window = atol(argv[8]);
    is_mandatory = !strcmp(argv[1], "publish");
    int is_publish = is_mandatory || !strcmp(argv[1], "publish-optional");
    if (!is_publish && strcmp(argv[1], "consume")) fail("no such CASE");
    queue = amqp_cstring_bytes(argv[5]);
    memset(body, 'x', BODY);
    open_connection(argv[2], atoi(argv[3]), argv[4], argv[6]);
    if (!is_publish) {
        fill(count);
        amqp_basic_qos(connection, 1, 0, (uint16_t)window, 0);
        amqp_basic_consume(connection, 1, queue, amqp_empty_bytes, 0, 0, 0, amqp_empty_table);
        check(amqp_get_rpc_reply(connection), "consume");
    }
    double wall = wall_s(), cpu = cpu_s();
    (is_publish ? publish : consume)(count, window);
    printf("{\"messages\": %ld, \"seconds\": %.6f, \"cpu_s\": %.6f, \"details\": {}}\n", count,
           wall_s() - wall, cpu_s() - cpu);
    return 0;
}
