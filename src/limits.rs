//! Every cap and size that is fixed at build time, with the relations between them checked by the compiler.
//! What an operator may change has its default here and its key in `config`.

use std::time::Duration;

/// Largest request or response head that can be configured, bytes. Spans into a head are `u16`s.
pub const HEAD_BYTES_MAX: usize = 60 * 1024;
/// Default of `listener.limits.header_bytes`.
pub const HEADER_BYTES: usize = 16 * 1024;
/// Longest request line (RFC 9112 section 3 recommends at least 8000 octets); above: 414.
pub const REQUEST_LINE_BYTES: usize = 8 * 1024;
/// Longest head of a request as it is forwarded, bytes, with what a route puts in the place of variables; above: 431.
pub const FORWARDED_HEAD_BYTES: usize = 2 * HEAD_BUFFER_BYTES;
/// Longest response head; above: 502.
pub const RESPONSE_HEAD_BYTES: usize = 48 * 1024;
/// Interim responses (1xx) relayed for one request; above: 502.
pub const INTERIM_RESPONSES: u16 = 128;
/// Longest list of protocols in Upgrade that is offered to an origin; a longer one is not offered.
pub const UPGRADE_BYTES: usize = 30;
/// Unread request body, bytes, that is read and dropped after an answer so that the connection can be kept.
pub const DRAIN_BYTES: u64 = 64 * 1024;
/// Most bytes that an exchange keeps of its request for the fields of its response; above: 431. There may be as many as connections.
pub const KEPT_BYTES: usize = 4 * 1024;
/// Most states of an expression whose groups are used. Each byte of a path may cost as many steps.
pub const GROUP_STATES: usize = 512;
/// Most variables in the texts of one route: a header field of the client's may take the place of each.
pub const ROUTE_VARIABLES: usize = 64;
/// Largest body of an error page, bytes: it is sent with each such answer.
pub const ERROR_PAGE_BYTES: usize = 64 * 1024;
/// Default of `listener.limits.handshakes`: at one worker, half of its receive buffers could hold a part of each.
pub const HANDSHAKES: usize = 8 * 1024;
/// An incomplete message of a handshake of up to so many bytes, as a ClientHello is that a client sends half of, holds no buffer but memory of
/// its own while nothing more of it comes.
pub const HANDSHAKE_PART_BYTES: usize = 2 * 1024;
/// How long a handshake is left alone that is one too many: long enough for two round trips of the farthest client.
pub const HANDSHAKE_GRACE: Duration = Duration::from_secs(1);
/// Default of `listener.limits.header_count`.
pub const HEADER_COUNT: usize = 100;
/// Largest value of `listener.limits.header_count`: the size of the parser's field table.
pub const HEADER_COUNT_MAX: usize = 256;
/// Longest header of version 1 of the PROXY protocol, bytes: what its specification says.
pub const PROXY_V1_BYTES: usize = 107;
/// Longest header of version 2 that is read, bytes; above: the connection is closed. The addresses of Unix-domain sockets take 232, TLVs
/// such as those of cloud providers and of TLS some hundred.
pub const PROXY_V2_BYTES: usize = 4 * 1024;
/// Longest ClientHello that is read to route by it, bytes; above: the connection is closed. With keys and tickets after quantum computers
/// it has 2 KiB.
pub const CLIENT_HELLO_BYTES: usize = 16 * 1024;
/// Bytes that it may take on the wire, with the headers of its records: what is received of it is joined in one buffer.
pub const CLIENT_HELLO_WIRE_BYTES: usize = HEAD_BYTES_MAX;
/// Longest field name, bytes; above: 431.
pub const FIELD_NAME_BYTES: usize = 256;
/// Longest chunk-size line with its extensions, bytes (RFC 9112 section 7.1.1).
pub const CHUNK_LINE_BYTES: usize = 256;
/// Chunk extension bytes allowed in the body of one request, so that one byte of data cannot cost a kilobyte of line.
pub const CHUNK_EXTENSION_BYTES: usize = 4 * 1024;
/// Longest method, bytes; above: 501 (RFC 9110 section 9.1).
pub const METHOD_BYTES: usize = 128;
/// Empty lines skipped before a request line (RFC 9112 section 2.2 asks for at least one); above: 400.
pub const LEADING_EMPTY_LINES: usize = 32;
/// Field names that one message may nominate in `Connection`, so that marking them stays cheap; above: refused.
pub const CONNECTION_OPTIONS: usize = 64;
/// Largest body or chunk length taken from the wire: far above any body, far below where arithmetic could wrap.
pub const BODY_LENGTH_MAX: u64 = (1 << 62) - 1;
/// Size of the compiled route tables of all listeners together; above: a build error. Positions in them are `u32`s.
pub const ROUTE_TABLE_BYTES_MAX: usize = 1024 * 1024 * 1024;

const _: () = assert!(HEADER_BYTES <= HEAD_BYTES_MAX);
const _: () = assert!(HEAD_BYTES_MAX < u16::MAX as usize);
const _: () = assert!(REQUEST_LINE_BYTES < HEADER_BYTES);
const _: () = assert!(HEADER_COUNT <= HEADER_COUNT_MAX);

/// Longest wait before a request is sent again to the same endpoint.
pub const BACKOFF_MAX: Duration = Duration::from_secs(10);

/// Most attempts of a request that a route can ask for besides the first one.
pub const RETRIES_MAX: u8 = 10;

/// Bytes of one receive buffer: one whole TLS record (RFC 8446 section 5.2: 16 KiB + 256 + 5) behind its headroom. Not a
/// multiple of a page, so that the heads of different connections fall into different cache sets.
pub const BUFFER_BYTES: usize = 17 * 1024;
/// Bytes kept free in front of what the kernel writes: a rewritten head, a chunk-size line or a frame header goes there.
pub const BUFFER_HEADROOM: usize = 512;
/// Bytes kept free behind: the CRLF of a chunk, an authentication tag. So many that a receive brings no more than one TLS record
/// may hold, which is then sealed where it lies.
pub const BUFFER_TAILROOM: usize = BUFFER_BYTES - BUFFER_HEADROOM - 16 * 1024;
/// Receive buffers of one worker; reserved as address space, resident only once used.
pub const BUFFERS: usize = 16 * 1024;
/// Buffers offered to the kernel at a time: one for each socket, within these bounds. Few, so that the same warm ones go round
/// and that one bulk transfer cannot take many with one receive. The upper bound is a power of two.
pub const BUFFERS_OFFERED_MIN: usize = 64;
/// See [`BUFFERS_OFFERED_MIN`].
pub const BUFFERS_OFFERED_MAX: usize = 1024;
/// Pieces below this size are joined into one TLS record when more follows: a record costs as much as copying so many bytes.
pub const SEAL_PIECE_BYTES: usize = 4 * 1024;
/// Tickets for TLS resumption that a worker keeps for each endpoint. Servers send two a handshake, as a rule, and each is used once.
pub const ENDPOINT_TICKETS: usize = 16;
/// TLS records without content, key updates among them, that a peer may send beyond what content and time pay for; above: the
/// connection ends.
pub const EMPTY_RECORDS: u32 = 32;
/// Bytes of content that pay for one such record. An update of keys costs about as much as a small request.
pub const EMPTY_RECORD_BYTES: u32 = 256;
/// Time that pays for one.
pub const EMPTY_RECORD_INTERVAL: Duration = Duration::from_millis(100);
/// Default of `listener.http2.streams`.
pub const STREAMS: usize = 100;
/// Most streams that can be configured.
pub const STREAMS_MAX: usize = 1000;
/// Default of `listener.http2.window`, bytes.
pub const STREAM_WINDOW_BYTES: usize = 64 * 1024;
/// Default of `listener.http2.connection_window`, bytes.
pub const CONNECTION_WINDOW_BYTES: usize = 1024 * 1024;
/// Largest window that can be configured, bytes.
pub const WINDOW_BYTES_MAX: usize = 1 << 30;
/// Bytes that wait to be sent on a stream before what they come from is paused.
pub const STREAM_QUEUE_BYTES: usize = 128 * 1024;
/// One buffer in so many may be held by the bodies of one connection of HTTP/2.
pub const CONNECTION_SHARE: usize = 4;
/// Most bytes that one receive brings.
pub const RECEIVE_BYTES: usize = 16 * 1024;
/// Fields of a request of HTTP/2 that are its request line in HTTP/1.1: method, scheme, authority, path, and the protocol of a tunnel.
pub const PSEUDO_FIELDS: usize = 5;
/// When fewer than one buffer in so many is free, one connection may hold only [`QUEUE_BYTES_SCARCE`], and the kernel is offered
/// [`BUFFERS_OFFERED_MIN`] for each side.
pub const SCARCE_SHARE: usize = 4;
/// One buffer in so many, of either size, cannot be taken by clients: for what endpoints send and for answers of our own. When fewer
/// are free, connections that hold buffers and make no progress are shed, the longest-stalled first.
pub const RESERVED_SHARE: usize = 16;
/// Bytes that one direction of an exchange may hold before its source is paused.
pub const QUEUE_BYTES: usize = 256 * 1024;
/// Pieces, and so buffers, that it may hold.
pub const QUEUE_PIECES: usize = 32;
/// Bytes that it may hold when buffers are scarce.
pub const QUEUE_BYTES_SCARCE: usize = BUFFER_BYTES;
/// Pieces that it may hold when buffers are scarce.
pub const QUEUE_PIECES_SCARCE: usize = 2;
/// Bytes of requests that wait behind the current one before their client is paused; and of answers that wait to be sent before
/// the next of them begins.
pub const PIPELINE_BYTES: usize = 2 * BUFFER_BYTES;
/// Pieces of them.
pub const PIPELINE_PIECES: usize = 4;
/// Connections shed at a time, and how often.
pub const SHED_CONNECTIONS: usize = 128;
/// See [`SHED_CONNECTIONS`].
pub const SHED_INTERVAL: Duration = Duration::from_millis(50);
/// How long a connection has made no progress before it may be shed.
pub const SHED_STALL: Duration = Duration::from_secs(1);
/// Largest head in one buffer of the second pool, which holds heads that arrived in several pieces.
pub const HEAD_BUFFER_BYTES: usize = 63 * 1024;
/// Such buffers of one worker.
pub const HEAD_BUFFERS: usize = 1024;
/// Default of `route.retry.buffer`: bytes of a sent request that are kept for a replay on a fresh connection, where one is allowed.
pub const REPLAY_BYTES: usize = 64 * 1024;
/// Largest value that can be configured.
pub const REPLAY_BYTES_MAX: usize = 256 * 1024;
/// Bytes for each of which one piece may be kept, and so one buffer: an average piece is to be half a receive.
pub const REPLAY_PIECE_BYTES: usize = RECEIVE_BYTES / 2;
/// Pieces that may be kept, however few bytes.
pub const REPLAY_PIECES_MIN: usize = 2;
/// Most pieces that may be kept.
pub const REPLAY_PIECES_MAX: usize = REPLAY_BYTES_MAX / REPLAY_PIECE_BYTES;
/// Pieces in one `sendmsg(2)`.
pub const SEND_PIECES: usize = 64;
/// Pieces up to this size are copied behind the one before where that has room, a body behind its head among them: one piece is
/// cheaper to send than two, and pins one buffer instead of two.
pub const COALESCE_BYTES: usize = 2 * 1024;

/// Entries of a worker's submission queue.
pub const SUBMISSIONS: u32 = 1024;
/// Entries of its completion queue; the kernel keeps what does not fit (IORING_FEAT_NODROP).
pub const COMPLETIONS: u32 = 8 * 1024;
/// Completions that end the wait of a worker that waits for several at once.
pub const BATCH: usize = 16;
/// Descriptors of one worker that clients cannot take at most: for connections to endpoints. Where a worker has fewer than twice
/// as many, half of them.
pub const UPSTREAM_DESCRIPTORS: usize = 8 * 1024;
/// Descriptors of the process that stay for files and the admin interface; a sixteenth of all where that is fewer.
pub const CONTROL_DESCRIPTORS: usize = 64;
/// Bytes of a client's certificate in the form in which an application is told of it, kept for each connection.
pub const CLIENT_CERT_BYTES: usize = 8 * 1024;
/// Bytes of what a certificate says of its owner: the longest SPIFFE ID (SPIFFE-ID section 2.3).
pub const IDENTITY_BYTES: usize = 2048;
/// Fields of a request that the access log may have besides those that it always has.
pub const LOGGED_HEADERS: usize = 16;
/// Attempts of one exchange that are told of: the first ones and the last.
pub const LOGGED_ATTEMPTS: usize = 16;
/// An exchange that takes so long is slow, unless `log.slow` says otherwise.
pub const SLOW_EXCHANGE: Duration = Duration::from_secs(1);
/// How long a tunnel may be silent in both directions.
pub const TUNNEL_IDLE: Duration = Duration::from_secs(3600);
/// How long a connection that is to be closed is read on, so that the client gets the answer instead of a reset.
pub const LINGER: Duration = Duration::from_secs(5);
/// Connections of one worker above `limits.connections` that are read on for so long; more are closed at once.
pub const REFUSED_CONNECTIONS: u32 = 1024;
/// Addresses of one name that are tried.
pub const ADDRESSES: usize = 16;
/// The shortest time that connecting to one of several addresses of a name is given (RFC 8305 section 8).
pub const ATTEMPT_MIN: Duration = Duration::from_millis(250);
/// Ids that the listeners of all snapshots that live at once may take; above: a reload is refused.
pub const LISTENER_IDS: usize = 4096;
/// Numbers that the routes of all snapshots that live at once may take; above: a build error. What is kept of each route in tables
/// by number stays bounded.
pub const ROUTE_NUMBERS: u32 = 1024 * 1024;
/// Series of requests of one route that a worker tells apart: listeners, clusters, methods and statuses. What comes above is counted
/// together. A power of two.
pub const ROUTE_SERIES: usize = 64;
/// Names of clusters that are told apart in metrics, over the life of the process; further ones are one.
pub const CLUSTER_NAMES: u32 = 65_536;
/// How long idle connections of a removed listener are kept: each is closed at a moment of its own between the two.
pub const LEAVE: Duration = Duration::from_secs(10);
/// See [`LEAVE`].
pub const LEAVE_MIN: Duration = Duration::from_secs(1);
/// How long a connection without any request is kept when the process is to end, and how long one that was closed while it was idle
/// is read on.
pub const FIRST_REQUEST: Duration = Duration::from_millis(500);
/// Milliseconds of one tick of the timer wheel.
pub const TICK_MS: u64 = 16;

const _: () = assert!(BUFFER_BYTES - BUFFER_HEADROOM >= 16 * 1024 + 256 + 5 && BUFFER_TAILROOM >= 64);
const _: () = assert!(BUFFER_BYTES < HEAD_BUFFER_BYTES && HEAD_BUFFER_BYTES < u16::MAX as usize);
const _: () = assert!(HEAD_BUFFER_BYTES >= HEAD_BYTES_MAX + BUFFER_HEADROOM + BUFFER_TAILROOM);
const _: () = assert!(BUFFERS <= u16::MAX as usize + 1 && BUFFERS_OFFERED_MAX.is_power_of_two());
const _: () = assert!(REPLAY_BYTES <= REPLAY_BYTES_MAX && REPLAY_PIECES_MAX <= QUEUE_PIECES);
const _: () = assert!(HANDSHAKES <= BUFFERS / 2 && HANDSHAKE_PART_BYTES < RECEIVE_BYTES);
const _: () = assert!(STREAMS * STREAM_WINDOW_BYTES <= BUFFERS / CONNECTION_SHARE * RECEIVE_BYTES);
const _: () = assert!(BUFFERS_OFFERED_MIN < BUFFERS_OFFERED_MAX && BUFFERS_OFFERED_MAX < BUFFERS / SCARCE_SHARE);
const _: () = assert!(BUFFERS / RESERVED_SHARE + 2 * BUFFERS_OFFERED_MAX < BUFFERS / SCARCE_SHARE);
const _: () =
    assert!(QUEUE_PIECES_SCARCE > 1 && PIPELINE_PIECES > 1 && COALESCE_BYTES + BUFFER_TAILROOM < BUFFER_BYTES);
const _: () = assert!(ROUTE_SERIES.is_power_of_two() && CLUSTER_NAMES < 1 << 24 && LISTENER_IDS <= 4096);
