//! What a request can meet with.

/// How the server misbehaves towards one request. Faults of a resource are met in the order in
/// which they were given, each by one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A refusal with this status; more than 0 seconds are asked for before the next try.
    Status(u16, u32),
    /// The connection stays open, and nothing is ever said.
    Silence,
    /// The answer begins and then nothing more comes, not even an end.
    Stall,
    /// After so many objects the connection ends in the middle of the next one.
    Cut(usize),
    /// One line that is no JSON, after what there is to say; then the watch goes on.
    Garbage,
    /// A watch that says that its version is too old: error 410 in the stream.
    Gone,
    /// A watch that says error 500 in the stream.
    Broken,
    /// Everything comes one byte at a time.
    Trickle,
    /// Every event comes twice.
    Twice,
    /// What there is comes in another order than it happened; objects keep their own order.
    Shuffled,
    /// A watch that says nothing but bookmarks as long as it lasts.
    BookmarksOnly,
    /// Bytes that are no HTTP.
    Noise,
}
