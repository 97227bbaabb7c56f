//! Changes that someone else makes to our tables.
//!
//! The kernel sends a message for each element that anybody changes, our own 150,000 of a first
//! fill included. A filter in the kernel drops those before they reach the socket.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use futures_util::StreamExt as _;
use nlink::{
    Connection,
    netlink::{
        Nftables,
        nftables::{Family as NftFamily, NftablesEvent, NftablesGroup},
    },
};
use shunt_core::backend::Bell;
use tokio::task::AbortHandle;

use super::options::NftablesOptions;

/// Follows the changes of nftables as long as it lives.
pub(super) struct Watch {
    /// Whether the tables may be other than they were written.
    doubt: Arc<AtomicBool>,
    has_ended: Arc<AtomicBool>,
    task: AbortHandle,
}

impl Watch {
    /// Begins to follow; `own` is the socket whose changes are ours.
    ///
    /// # Errors
    ///
    /// Fails if the kernel does not let us listen.
    pub(super) fn start(
        options: &NftablesOptions,
        own: u32,
        bell: Bell,
    ) -> Result<Self, nlink::Error> {
        let connection = Connection::<Nftables>::new()?;
        connection.socket().attach_filter(&all_but(own))?;
        connection.subscribe(&[NftablesGroup::All])?;
        let doubt = Arc::new(AtomicBool::new(false));
        let has_ended = Arc::new(AtomicBool::new(false));
        let (table, doubted, ended) =
            (options.table.clone(), Arc::clone(&doubt), Arc::clone(&has_ended));
        let task = tokio::spawn(async move {
            let mut events = connection.into_events().await;
            while let Some(event) = events.next().await {
                // What was lost may have been about us.
                if event.is_ok_and(|event| !is_about(&event, &table)) {
                    continue;
                }
                doubted.store(true, Ordering::Release);
                bell.ring();
            }
            ended.store(true, Ordering::Release);
            doubted.store(true, Ordering::Release);
            bell.ring();
        });
        Ok(Self { doubt, has_ended, task: task.abort_handle() })
    }

    /// Whether the tables may be other than they were written; asking takes the doubt away.
    pub(super) fn take_doubt(&self) -> bool {
        // Without the notifications every look has to be a close one.
        self.doubt.swap(false, Ordering::AcqRel) || self.has_ended.load(Ordering::Acquire)
    }

    /// What an operator should know.
    pub(super) fn problem(&self) -> Option<String> {
        let text = "The changes of nftables cannot be followed any more; what others change is \
                    mended at the next look only.";
        self.has_ended.load(Ordering::Acquire).then(|| text.to_owned())
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Whether an event is about a table of ours.
fn is_about(event: &NftablesEvent, ours: &str) -> bool {
    let (family, table) = match event {
        NftablesEvent::NewTable(table) | NftablesEvent::DelTable(table) => {
            (table.family, &table.name)
        }
        NftablesEvent::NewChain(chain) | NftablesEvent::DelChain(chain) => {
            (chain.family, &chain.table)
        }
        NftablesEvent::NewRule(rule) | NftablesEvent::DelRule(rule) => (rule.family, &rule.table),
        NftablesEvent::NewSet(set) | NftablesEvent::DelSet(set) => (set.family, &set.table),
        NftablesEvent::NewSetElements(elements) | NftablesEvent::DelSetElements(elements) => {
            (elements.family, &elements.table)
        }
        _ => return false,
    };
    matches!(family, NftFamily::Ip | NftFamily::Ip6) && table == ours
}

/// A filter that drops the notifications of what one socket did: four instructions of the classic
/// packet filter, which looks at `nlmsg_pid`, the fourth word of a netlink message.
fn all_but(own: u32) -> Vec<u8> {
    const LOAD_WORD: u16 = 0x20;
    const JUMP_IF_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    const PORT_OFFSET: u32 = 12;
    // The filter reads words in network order, netlink writes them in the machine's.
    let own = u32::from_be_bytes(own.to_ne_bytes());
    let program = [
        (LOAD_WORD, 0, 0, PORT_OFFSET),
        (JUMP_IF_EQUAL, 0, 1, own),
        (RETURN, 0, 0, 0),
        (RETURN, 0, 0, u32::MAX),
    ];
    let mut bytes = Vec::with_capacity(32);
    for (code, if_true, if_false, value) in program {
        bytes.extend(u16::to_ne_bytes(code));
        bytes.extend([if_true, if_false]);
        bytes.extend(u32::to_ne_bytes(value));
    }
    bytes
}
