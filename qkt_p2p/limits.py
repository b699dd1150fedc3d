"""Every cap and timeout, with its unit and the reason for its value.

Whatever a peer can fill is capped here, so that no peer can make this node hold
more memory or work longer than its owner can foresee.
"""

# --- Names and lists -------------------------------------------------------------------------------

MAX_NAME_CHARACTERS = 64
"""Length of a class or node name; long enough for clinical labels, short enough for a table."""

MAX_CLASSES = 1024
"""Classes in one message or model; ImageNet's thousand fit."""

MAX_QUERY_CLASSES = 64
"""Classes in one query; a student that lacks more should train from scratch."""

MAX_QUERY_TOKEN_CHARACTERS = 64
"""Length of the token that names a query for its owner: any usual identifier fits."""

MAX_MEDIA = 16
"""Media that a node can name."""

MAX_ENCODINGS = 16
"""Encodings that an asker can name."""

MAX_MODEL_VERSION = 2**63 - 1
"""Version of a model; the largest number that the journal keeps."""

MAX_ADDRESSES = 8
"""Addresses of one peer; a machine with more interfaces names the useful ones."""

MAX_ADDRESS_CHARACTERS = 263
"""A DNS name (255) with a colon, a port (5) and brackets."""

MAX_PEERS_PER_EXCHANGE = 64
"""Peer addresses in one exchange; larger federations spread by repetition."""

MAX_PEERS = 1024
"""Peers that one node remembers."""

MAX_ROLE_CHARACTERS = 32
"""Length of a role; it stands in a certificate, which every handshake carries."""

MAX_ROLES = 16
"""Roles of one member, for the same reason."""

# --- Probes and synthetic batches -------------------------------------------------------------------

MAX_PROBES = 8192
"""Probe inputs in one request: as many as serve 28 classes or more (docs/method.md)."""

MIN_SAMPLES_PER_CLASS = 10
"""Synthetic samples of one class that an asker wants at least: of a tenth, held out, the gate needs one."""

MAX_SAMPLES_PER_CLASS = 20_000
"""Synthetic samples of one class in one response."""

MAX_RANK = 3
"""Dimensions of one input: channels, height, width."""

MAX_SIDE = 1024
"""Length of any one of those dimensions."""

MAX_INPUT_ELEMENTS = 3 * 512 * 512
"""Numbers in one input."""

# --- Stems: graphs that an asker sends for its teachers to run ----------------------------------------

MAX_STEM_BYTES = 3 * 1024 * 1024
"""One stem; the first half of a ResNet-18 takes 1.4 MiB."""

MAX_STEM_NODES = 512
"""Operators in a stem; that of a ResNet-18 has 40."""

MAX_STEM_WEIGHTS = 1024
"""Tensors of weights in a stem; that of a ResNet-18 has 10. The time to load them grows faster than their
number: 0.1 s for these, over 100 s for what 3 MiB hold."""

MAX_STEM_NUMBER = 2**20
"""Any whole number in a stem (strides, axes, shapes); small enough that no product of them overflows."""

MAX_STEM_VALUES = 2**25
"""Numbers that a stem makes of one sample on its way, all layers together: 128 MiB."""

MAX_STEM_BATCH_VALUES = 2**26
"""The same for a batch, and so the memory of a run: 256 MiB. The batch is chosen to fit."""

MAX_STEM_BATCH = 64
"""Samples in a batch; more is no faster."""

MAX_STEM_OPERATIONS = 2**31
"""Multiplications that a stem costs for one sample: 0.2 s on a slow core; that of a ResNet-18 for 64x64
pixels costs half of it."""

STEM_SECONDS = 120.0
"""Longest time that a stem runs over one class's data."""

SYNTHESIS_SECONDS = 300.0
"""Longest time that a node works on one request to be taught: half of MAX_WAIT_SECONDS, as its asker waits,
so that whoever is next in line has as much."""

# --- Recipes: what describes a class, so that the asker draws samples itself --------------------------

MAX_RECIPE_RANK = 64
"""Principal axes of a class; 40 suffice (docs/method.md). A Gaussian takes the square of their number."""

MAX_RECIPE_COMPONENTS = 64
"""Gaussians of a class; 8 suffice (docs/method.md)."""

MAX_EPSILON = 100.0
"""Largest epsilon of a privacy budget; with more than 10 there is hardly any privacy."""

MAX_FITTED_NUMBERS = 2**27
"""Numbers of a class's data, in the asker's space, that a recipe is made of: 1.6 GB while it is. Behind the
usual stem of a ResNet-18 for 32x32 pixels these are 4096 samples; of more a part is taken."""

MAX_FILE_BYTES = 256 * 1024 * 1024
"""An answer that is one file; a ResNet-18 takes 43 MiB."""

MAX_DRAWN_NUMBERS = 2**27
"""Numbers in all samples that an asker draws for one query, or a teacher for one step or one `inversion`: 512
MiB."""

MAX_ANSWERED_NUMBERS = 2**32
"""Numbers in all probes of one request that `noise` answers, made step by step: some minutes of a slow core.
A thousand probes of a class fit for 28 classes of 224x224 pixels in colour."""

# --- Bytes ------------------------------------------------------------------------------------------

MAX_MESSAGE_BYTES = 4 * 1024 * 1024
"""One gRPC message; gRPC's own default, said aloud on both sides."""

CHUNK_BYTES = 512 * 1024
"""Size that teachers aim at for a chunk: 256 KiB to 1 MiB is fastest over gRPC (PLATFORM measurements)."""

MAX_CHUNK_BYTES = 1024 * 1024
"""Largest chunk accepted."""

STREAM_WINDOW_BYTES = 2 * 1024 * 1024
"""What a sender may send ahead of the reader of a stream, and so what a stream takes of a node's memory: four
usual chunks. A link of 100 ms still carries 20 MB/s; gRPC's own guess grew beyond 80 MiB."""

CHUNKS_UNDER_WAY = 8
"""Chunks of a stream that are in memory at once, at either end: those worked on and those that wait, 4 MiB of
the usual size; at the asker as many again are still being written. Half as many cost more changes of threads,
twice as many were no faster."""

MAX_CHUNKS = 16_384
"""Chunks in one response: 8 GiB of the usual size, and half a MiB of digests in the offer."""

MAX_RESPONSE_BYTES = 1024 * 1024 * 1024
"""All chunks of one response; protects the asker's disk."""

MAX_RESPONSES_OF_TEACHER = 2
"""Responses of the largest size (MAX_CHUNKS, MAX_RESPONSE_BYTES) that a query takes of one teacher, all its
offers together: its model may change while it sends. One that offers anew for ever would fill the disk."""

MAX_INFLATED_BYTES = MAX_FILE_BYTES
"""What the chunks of a response stand for where some are compressed; little that comes may fill a memory."""

# --- Seconds ----------------------------------------------------------------------------------------

CALL_SECONDS = 10.0
"""Deadline of a small call (hello, heartbeat, exchange): a thousand times its usual duration."""

PROBE_SECONDS = 60.0
"""Deadline of a thousand probes; covers a cold start of the teacher's worker on a slow machine."""

PROBE_ENOUGH_SECONDS = 30.0
"""Time after which nobody waits for further answers to a probe where those that came are enough."""

PROBE_SHARE = 0.25
"""The same as a part of the time that the query has left."""

STREAM_STALL_SECONDS = 60.0
"""A teaching stream fails when nothing arrives for this long; the first message includes synthesis."""

MAX_WAIT_SECONDS = 600.0
"""Longest time for which a teacher may say that its answer is coming: 32 askers at twenty seconds each."""

MAX_WAITS = 1024
"""Signs of life before one offer: more than one a second only fills the owner's screen."""

ATTEMPTS = 5
"""Attempts at one teacher in a row that bring nothing; their pauses give a restart some ten seconds."""

AWAY_SECONDS = 120.0
"""How long a teacher may be away whom nobody can replace: within it a machine starts anew, or a VPN.
Whoever is away for longer may be so for hours, and its asker wants to know."""

RETRY_SECONDS = (1.0, 8.0)
"""Ceiling of the first and of the longest pause between two attempts; the pause is anything below it."""

BUSY_ATTEMPTS = 32
"""How often a teacher may say that it is busy before it is left out."""

BUSY_SECONDS = 60.0
"""Longest pause that a busy teacher can ask for."""

STRAGGLER_GRACE_SECONDS = 10.0
"""No teacher is slow within this time, whatever it usually takes: its worker may have to start."""

STRAGGLER_OFFER_SECONDS = 60.0
"""Longest time until the offer of a teacher of which too little is known: a slow machine's synthesis."""

STRAGGLER_BYTES_PER_SECOND = 64 * 1024
"""Slowest pace of such a teacher: half a megabit, less than any link that people work on."""

TRANSFERS_OF_A_PEER = 32
"""Transfers of a peer that are remembered: enough for a median, few enough to follow a peer that changes."""

MAX_TRANSFERS = 4096
"""Transfers that are remembered in all."""

SLOWEST_READER_BYTES_PER_SECOND = 4096
"""Whoever takes less of a stream loses it after STREAM_STALL_SECONDS: what a telephone line once gave. Each
message must come within STREAM_STALL_SECONDS, too, and the usual chunk takes 8.7 kB/s for that."""

REQUEST_SECONDS = 60.0
"""Longest time that a request takes to arrive: the largest stem over a line of half a megabit."""

HANDSHAKE_SECONDS = 10.0
"""Longest time that a caller takes to prove who it is; with those that do not a server holds connections."""

HEARTBEAT_SECONDS = 2.0
"""Mean pause between heartbeats to one peer."""

SILENT_AFTER_SECONDS = 7.0
"""A peer that was not heard for this long is no longer live: three missed beats."""

HEARSAY_SILENT_AFTER_SECONDS = 90.0
"""The same for a peer that only others hear: news comes at least twice a minute and takes a few steps."""

BAN_SECONDS = (10.0, 3600.0)
"""First and longest time for which a peer that broke the protocol is left alone; it doubles each time."""

ABSENCES = 2
"""Queries in a row in which a teacher went away and did not come back, before it is left alone: once may
happen to everybody."""

ABSENCE_SECONDS = (10.0, 600.0)
"""First and longest time for which such a peer is left alone; it doubles each time. It meant no harm, and may
be the only one to know a class."""

GONE_AFTER_SECONDS = 180.0
"""A peer that was not heard for this long is shown as gone; dialing goes on at growing pauses."""

RETRY_AFTER_SECONDS = (0.1, 60.0)
"""Shortest and longest time after which a busy peer can have a call repeated: neither a busy loop, nor longer
than a query can wait."""

REDIAL_SECONDS = (1.0, 5.0)
"""First and longest pause between attempts to dial a peer that does not answer: however long a partition was,
its sides are one within 10 s of its end."""

KEEPALIVE_SECONDS = (5.0, 3.0)
"""HTTP/2 ping interval and its timeout; an open stream over a dead link fails within their sum."""

MAX_MDNS_WAITING = 256
"""Names that wait for their addresses; records are free to forge, so there is an end to it."""

MAX_MDNS_RESOLVING = 8
"""Names of which the addresses are asked for at once."""

MDNS_RESOLVE_SECONDS = 3
"""Longest wait for the addresses behind an mDNS name."""

NETWORK_LOOK_SECONDS = 3.0
"""Pause between looks at this machine's networks: a cable that is plugged in shows within seconds, and a look
takes milliseconds where there are many interfaces."""

RECONNECT_SECONDS = 5.0
"""Longest wait of one attempt at a teacher for a connection in place of one that broke: the longest pause
before it is dialed again."""

SETTLE_SECONDS = 3.0
"""Longest wait of a query for connections to live peers: no neighbours, not dialed back, or not attached."""

MAX_FAILURES_TOLD = 3
"""Reasons why nobody is reached of which an owner is told; who is refused by all is so for one reason."""

MAX_FAILURE_CHARACTERS = 400
"""Length of one of them: the longest of this node's own has some 350, and a peer may say more."""

RETURN_SECONDS = 30.0
"""Longest wait of a resumed query for its teachers: they may start too, as after a power cut."""

DRAIN_SECONDS = 5.0
"""Longest time that a daemon waits for running calls when told to stop."""

RECORD_AGAIN_SECONDS = 5.0
"""Pause before the end of a query is recorded again that the disk did not take: space may be free by then."""

MAX_CONTROL_MESSAGE_BYTES = 256 * 1024 * 1024
"""One message of a daemon to its owner's command line: what a query found out, where a thousand peers know a
thousand classes each."""

CONTROL_SECONDS = 10.0
"""Deadline of a small call of the command line to its own daemon."""

MODELS_SECONDS = 600.0
"""The same of a call in which the worker looks at models: it may have to start, to load large data, and
to end a step of a query first."""

QUERY_SECONDS = 300.0
"""Default deadline of a query."""

MAX_QUERY_SECONDS = 24 * 3600.0
"""Longest deadline of a query."""

LEARNING_SHARE = 0.5
"""Largest part of a deadline that is kept for learning from what was collected."""

# --- Serving ----------------------------------------------------------------------------------------

MAX_CONCURRENT_TEACHING = 8
"""Peers' requests to be taught that a node works on or streams at once; the next ones wait."""

MAX_CONCURRENT_TEACHING_OF_PEER = 2
"""The same of one peer: a request, and one in place of another whose connection died unnoticed."""

MAX_WAITING_TEACHING = 64
"""Requests that wait; together with those that run, far below the calls that a server accepts."""

MAX_WAITING_TEACHING_OF_PEER = 8
"""The same of one peer: several queries at once, with one request each."""

MIN_PEER_BYTES_PER_SECOND = 65_536
"""Lowest cap on what one peer is sent: the largest chunks of its two streams arrive within 32 s, and an asker
waits for STREAM_STALL_SECONDS."""

TEACH_WAIT_SECONDS = 5.0
"""Pause between signs of life while a request waits or is worked on: a dozen within the asker's patience."""

MAX_CONCURRENT_PROBES = 64
"""Probes that a node works on at once; the worker takes them one by one, each a fraction of a second."""

MAX_CONCURRENT_PROBES_OF_PEER = 4
"""The same of one peer: a query makes one."""

MAX_CONCURRENT_CALLS = 256
"""Calls that the server accepts at once, over all peers; beyond it gRPC answers RESOURCE_EXHAUSTED."""

MAX_CALLS_OF_PEER = 64
"""The same of one peer: what it may have running and waiting, its attached line and 32 answers over that."""

MAX_ATTACHED_PEERS = 128
"""Peers that nobody can dial and that are attached to this node; each holds one of the calls above."""

MAX_ATTACHED_CALLS = 32
"""Calls to one attached peer at once; a query makes one."""

BUSY_CALLS_SECONDS = 1.0
"""Whoever makes too many calls at once is told to wait this long: most calls take less."""

DEADLY_ORDER_SECONDS = 600.0
"""How long a request is refused in which the worker died twice: memory may be there by then."""

STOPPING_SECONDS = 3.0
"""Whoever asks a node that is stopping is told to wait this long: some restarts take no longer."""

MAX_ATTACHED_BYTES = MAX_MESSAGE_BYTES - 1024
"""One message to or from an attached peer, which travels within another message."""

MAX_WORKER_FRAME_BYTES = 8 * 1024 * 1024
"""One JSON line between the daemon and its worker process."""

# --- Membership -------------------------------------------------------------------------------------

MAX_INVITATIONS = 1024
"""Open invitations of one authority."""

MAX_INVITATION_USES = 1024
"""Members that one invitation lets in: as many as a node remembers."""

MAX_INVITATION_SECONDS = 30 * 24 * 3600.0
"""Longest time that an invitation is open: its secret travels through mail and chat."""

MAX_TOKEN_CHARACTERS = 4096
"""A token with eight long addresses; the usual one has under 200."""

MAX_ISSUED_OF_PEER = 16
"""Certificates of one peer that its authority remembers: each takes a place in the revocation list if the
peer is revoked, and a member may have its own renewed as often as calls are let in."""

MAX_KEYS_OF_MEMBER = 8
"""Keys with a valid certificate that one member has because one vouched for the next: each is a peer to the
others, and takes one of their MAX_PEERS places. A member that changes its key every two weeks has seven."""

MAX_REVOCATION_BYTES = 256 * 1024
"""All revocation lists of a federation: some 1,700 revoked certificates."""

ENROLLMENT_MESSAGE_BYTES = 64 * 1024
"""One message on the enrolment port, of the size of the largest bundle; a request takes half a kilobyte."""

ENROLLMENT_ANSWER_BYTES = 512 * 1024
"""One answer of an authority: a bundle and all revocation lists."""

ENROLLMENT_CALLS = 32
"""Enrolment calls that an authority serves at once; one takes some ten milliseconds."""

ENROLLMENT_CALLS_PER_SECOND = 50.0
"""Enrolment calls that an authority serves over time, over all addresses."""

ENROLLMENT_CALLS_PER_ADDRESS = (2.0, 30)
"""The same for one address: calls per second, and how many at once after a pause; joining takes two."""

ENROLLMENT_ADDRESSES = 4096
"""Addresses whose rate an authority remembers; the longest silent is forgotten first."""

ENROLLMENT_CONNECTION_SECONDS = 60.0
"""Age at which an enrolment connection is closed: joining takes less than one."""

MAX_RULES = 256
"""Rules of one kind in a node's policy; larger groups get a role in their certificates."""

TRUST_WATCH_SECONDS = 2.0
"""Pause between looks at the files in identity/, which other processes replace."""

REVOCATION_RETRY_SECONDS = 60.0
"""Pause before lists are exchanged again with a peer that did not take, or give, what differs."""

RENEWAL_SECONDS = (60.0, 3600.0)
"""First and longest pause between attempts to renew a certificate; a month is left for them."""

KEY_CHANGE_SECONDS = 60.0
"""A node whose key changed answers calls to its old peer id for this long: what is between two calls of a
query, such as a slow probe of another teacher, lasts no longer."""

EXPIRY_WARNING_SECONDS = 14 * 24 * 3600.0
"""A node's owner is warned when its certificate expires within this time."""
