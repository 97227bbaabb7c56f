//! Where notices go that operators look for.

use async_trait::async_trait;
use shunt_core::notice::Notice;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Where notices go: a source's own world, such as the events of a cluster.
#[async_trait]
pub trait NoticeBoard: Send {
    /// Posts what it is given until `shutdown`. What cannot be posted is lost and counted as
    /// [`shunt_core::notice::LOST`]: nothing waits for it, and the log has said it already.
    async fn run(self: Box<Self>, notices: mpsc::Receiver<Notice>, shutdown: CancellationToken);
}
