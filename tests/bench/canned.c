/* A server that answers at once, with bytes that it is given: what is measured on it is the client.

   canned ANSWERS

prints the port of 127.0.0.1 on which it speaks HTTP/2 (gRPC) and HTTP/1.1 (REST), with a thread for
each connection, until it is killed. ANSWERS is a file of records, in this machine's byte order:

   uint32 least, uint32 key length, uint32 answer length, key, answer

A request gets the answer of the first record whose key stands in its path or in the first bytes of
its body, and whose `least` is no more than its body's length. */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <nghttp2/nghttp2.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

enum { HEAD = 512, PIECE = 1 << 18, WINDOW = 1 << 28 };

static uint8_t *records, *records_end;

typedef struct {
  char head[HEAD]; /* the path and the first bytes of the body */
  size_t head_length, body_length;
  const uint8_t *answer;
  size_t answer_length, sent;
  uint8_t prefix[5]; /* of a gRPC message: not compressed, its length */
} Request;

static void add_head(Request *request, const void *data, size_t length) {
  size_t room = HEAD - request->head_length;
  size_t taken = length < room ? length : room;
  memcpy(request->head + request->head_length, data, taken);
  request->head_length += taken;
}

static void find_answer(Request *request) {
  for (uint8_t *record = records; record < records_end;) {
    uint32_t least, key, answer;
    memcpy(&least, record, 4), memcpy(&key, record + 4, 4), memcpy(&answer, record + 8, 4);
    record += 12;
    if (least <= request->body_length &&
        memmem(request->head, request->head_length, record, key)) {
      request->answer = record + key;
      request->answer_length = answer;
      return;
    }
    record += key + answer;
  }
}

static int send_all(int connection, const void *data, size_t length) {
  for (ssize_t sent; length; data = (const char *)data + sent, length -= sent)
    if ((sent = send(connection, data, length, MSG_NOSIGNAL)) <= 0) return -1;
  return 0;
}

/* HTTP/2 */

static int on_begin(nghttp2_session *session, const nghttp2_frame *frame, void *unused) {
  (void)unused;
  return nghttp2_session_set_stream_user_data(session, frame->hd.stream_id,
                                              calloc(1, sizeof(Request)));
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name,
                     size_t name_length, const uint8_t *value, size_t value_length, uint8_t flags,
                     void *unused) {
  (void)flags, (void)unused;
  if (name_length == 5 && !memcmp(name, ":path", 5))
    add_head(nghttp2_session_get_stream_user_data(session, frame->hd.stream_id), value,
             value_length);
  return 0;
}

static int on_data(nghttp2_session *session, uint8_t flags, int32_t stream, const uint8_t *data,
                   size_t length, void *unused) {
  (void)flags, (void)unused;
  Request *request = nghttp2_session_get_stream_user_data(session, stream);
  add_head(request, data, length);
  request->body_length += length;
  return 0;
}

static ssize_t read_answer(nghttp2_session *session, int32_t stream, uint8_t *buffer, size_t room,
                           uint32_t *flags, nghttp2_data_source *source, void *unused) {
  (void)unused;
  static const nghttp2_nv trailer = {(uint8_t *)"grpc-status", (uint8_t *)"0", 11, 1, 0};
  Request *request = source->ptr;
  size_t total = sizeof request->prefix + request->answer_length, written = 0;
  while (written < room && request->sent < total) {
    int in_prefix = request->sent < sizeof request->prefix;
    size_t end = in_prefix ? sizeof request->prefix : total;
    size_t taken = end - request->sent < room - written ? end - request->sent : room - written;
    const uint8_t *from = in_prefix ? request->prefix + request->sent
                                    : request->answer + request->sent - sizeof request->prefix;
    memcpy(buffer + written, from, taken);
    request->sent += taken, written += taken;
  }
  if (request->sent == total) {
    *flags |= NGHTTP2_DATA_FLAG_EOF | NGHTTP2_DATA_FLAG_NO_END_STREAM;
    nghttp2_submit_trailer(session, stream, &trailer, 1);
  }
  return written;
}

static int on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *unused) {
  (void)unused;
  int is_last = frame->hd.flags & NGHTTP2_FLAG_END_STREAM;
  Request *request = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
  if (!is_last || !request) return 0;
  find_answer(request);
  for (int i = 0; i < 4; i++) request->prefix[4 - i] = request->answer_length >> (8 * i);
  static const nghttp2_nv headers[] = {
      {(uint8_t *)":status", (uint8_t *)"200", 7, 3, 0},
      {(uint8_t *)"content-type", (uint8_t *)"application/grpc", 12, 16, 0},
  };
  nghttp2_data_provider provider = {{.ptr = request}, read_answer};
  return nghttp2_submit_response(session, frame->hd.stream_id, headers, 2, &provider);
}

static int on_close(nghttp2_session *session, int32_t stream, uint32_t code, void *unused) {
  (void)code, (void)unused;
  free(nghttp2_session_get_stream_user_data(session, stream));
  return 0;
}

static void serve_grpc(int connection, uint8_t *buffer) {
  nghttp2_session_callbacks *callbacks;
  nghttp2_session_callbacks_new(&callbacks);
  nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, on_begin);
  nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
  nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
  nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame);
  nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_close);
  nghttp2_session *session;
  nghttp2_session_server_new(&session, callbacks, NULL);
  nghttp2_session_callbacks_del(callbacks);
  nghttp2_settings_entry settings[] = {{NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, WINDOW}};
  nghttp2_submit_settings(session, NGHTTP2_FLAG_NONE, settings, 1);
  nghttp2_session_set_local_window_size(session, NGHTTP2_FLAG_NONE, 0, WINDOW);
  ssize_t length;
  do { /* everything that one piece calls for goes out in one write */
    size_t waiting = 0;
    const uint8_t *frame;
    while ((length = nghttp2_session_mem_send(session, &frame)) > 0) {
      if (waiting + length > PIECE) {
        if (send_all(connection, buffer, waiting)) break;
        waiting = 0;
      }
      memcpy(buffer + waiting, frame, length);
      waiting += length;
    }
    if (length < 0 || send_all(connection, buffer, waiting)) break;
    length = recv(connection, buffer, PIECE, 0);
  } while (length > 0 && nghttp2_session_mem_recv(session, buffer, length) == length);
  nghttp2_session_del(session);
}

/* HTTP/1.1, one request at a time, of a stated length */

static void serve_rest(int connection, uint8_t *buffer) {
  size_t held = 0; /* bytes in the buffer, which a request begins */
  for (;;) {
    char *body;
    while (!(body = memmem(buffer, held, "\r\n\r\n", 4))) {
      ssize_t length = recv(connection, buffer + held, PIECE - held, 0);
      if (length <= 0) return;
      held += length;
    }
    *body = 0, body += 4;
    char *stated = strcasestr((char *)buffer, "\r\ncontent-length:");
    size_t expected = stated ? strtoul(stated + 17, NULL, 10) : 0;
    Request request = {.body_length = expected};
    add_head(&request, buffer, strcspn((char *)buffer, "\r"));
    held -= body - (char *)buffer;
    size_t taken = held < expected ? held : expected;
    add_head(&request, body, taken);
    memmove(buffer, body + taken, held -= taken);
    for (size_t left = expected - taken; left;) {
      ssize_t length = recv(connection, buffer, left < PIECE ? left : PIECE, 0);
      if (length <= 0) return;
      add_head(&request, buffer, length);
      left -= length;
    }
    find_answer(&request);
    char head[128];
    int length = snprintf(head, sizeof head,
                          "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
                          "Content-Length: %zu\r\n\r\n", request.answer_length);
    if (send_all(connection, head, length) ||
        send_all(connection, request.answer, request.answer_length))
      return;
  }
}

static void *serve(void *argument) {
  int connection = (int)(intptr_t)argument, yes = 1;
  setsockopt(connection, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
  uint8_t *buffer = malloc(PIECE);
  if (recv(connection, buffer, 4, MSG_PEEK | MSG_WAITALL) == 4)
    (memcmp(buffer, "PRI ", 4) ? serve_rest : serve_grpc)(connection, buffer);
  free(buffer);
  close(connection);
  return NULL;
}

int main(int count, char **arguments) {
  FILE *file = count == 2 ? fopen(arguments[1], "rb") : NULL;
  if (!file) return fputs("usage: canned ANSWERS\n", stderr), 2;
  fseek(file, 0, SEEK_END);
  size_t size = ftell(file);
  rewind(file);
  records = malloc(size), records_end = records + size;
  if (fread(records, 1, size, file) != size) return perror(arguments[1]), 1;
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
  socklen_t length = sizeof address;
  int listener = socket(AF_INET, SOCK_STREAM, 0);
  if (bind(listener, (struct sockaddr *)&address, length) || listen(listener, 128) ||
      getsockname(listener, (struct sockaddr *)&address, &length))
    return perror("canned"), 1;
  printf("%d\n", ntohs(address.sin_port));
  fflush(stdout);
  for (int connection; (connection = accept(listener, NULL, NULL)) >= 0;) {
    pthread_t thread;
    pthread_create(&thread, NULL, serve, (void *)(intptr_t)connection);
    pthread_detach(thread);
  }
  return perror("accept"), 1;
}
