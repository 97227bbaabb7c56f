//! Elements as netlink attributes.
//!
//! nlink can write elements, too, but copies each several times; a first fill has 150,000.

use nlink::netlink::nftables::{
    NFTA_DATA_VALUE, NFTA_DATA_VERDICT, NFTA_LIST_ELEM, NFTA_SET_ELEM_DATA, NFTA_SET_ELEM_KEY,
    NFTA_SET_ELEM_KEY_END, NFTA_SET_ELEM_LIST_ELEMENTS, NFTA_SET_ELEM_LIST_SET,
    NFTA_SET_ELEM_LIST_TABLE, NFTA_SET_ELEM_USERDATA, NFTA_VERDICT_CHAIN, NFTA_VERDICT_CODE,
};

use super::{
    data::{Bytes, Data, kind_value},
    ruleset::{SetName, Values},
};

const NESTED: u16 = 0x8000;
const NFT_GOTO: i32 = -4;
const NF_DROP: i32 = 0;

/// One message's attributes hold so many bytes of elements: the list of them is an attribute
/// itself, whose length has 16 bits.
const ROOM: usize = 60_000;

/// A list of elements of one set, cut into messages.
pub(super) struct ElementList {
    has_verdicts: bool,
    head: Vec<u8>,
    current: Vec<u8>,
    messages: Vec<Vec<u8>>,
}

impl ElementList {
    /// An empty list.
    pub(super) fn new(table: &str, set: SetName) -> Self {
        let mut head = Vec::with_capacity(64);
        attribute(&mut head, NFTA_SET_ELEM_LIST_TABLE, &[table.as_bytes(), &[0]]);
        attribute(&mut head, NFTA_SET_ELEM_LIST_SET, &[set.name().as_bytes(), &[0]]);
        let has_verdicts = set.values() == Values::Verdicts;
        Self { has_verdicts, head, current: Vec::new(), messages: Vec::new() }
    }

    /// Adds an element that is to be deleted.
    pub(super) fn push_key(&mut self, key: &[u8], end: Option<&[u8]>) {
        self.push(|buffer| keys(buffer, key, end));
    }

    /// Adds an element that is to be there.
    pub(super) fn push_element(&mut self, key: &[u8], data: &Data, comment: Option<&str>) {
        let kind = match data {
            Data::Goto(chain) if !self.has_verdicts => kind_value(key, *chain),
            _ => None,
        };
        let kind = kind.as_deref();
        self.push(|buffer| {
            let end = match data {
                Data::Until(end) => Some(&**end),
                _ => None,
            };
            keys(buffer, key, end);
            match data {
                Data::Value(value) => nest(buffer, NFTA_SET_ELEM_DATA, |buffer| {
                    attribute(buffer, NFTA_DATA_VALUE, &[value]);
                }),
                Data::Goto(chain) => match kind {
                    Some(value) => nest(buffer, NFTA_SET_ELEM_DATA, |buffer| {
                        attribute(buffer, NFTA_DATA_VALUE, &[value]);
                    }),
                    None => verdict(buffer, NFT_GOTO, Some(&chain.to_string())),
                },
                Data::Drop => verdict(buffer, NF_DROP, None),
                Data::Member | Data::Until(_) | Data::Foreign => {}
            }
            if let Some(comment) = comment {
                // A type-length-value of libnftnl's, type 0, with the zero behind the text. No
                // name of Kubernetes is longer than what a length of 8 bits can say.
                let text = comment.as_bytes().get(..254).unwrap_or(comment.as_bytes());
                let head = [0, text.len() as u8 + 1];
                attribute(buffer, NFTA_SET_ELEM_USERDATA, &[&head, text, &[0]]);
            }
        });
    }

    fn push(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        nest(&mut self.current, NFTA_LIST_ELEM, write);
        if self.current.len() > ROOM {
            self.cut();
        }
    }

    fn cut(&mut self) {
        let mut message = self.head.clone();
        message.reserve(self.current.len() + 8);
        attribute(&mut message, NFTA_SET_ELEM_LIST_ELEMENTS | NESTED, &[&self.current]);
        self.messages.push(message);
        self.current.clear();
    }

    /// The attributes of each message.
    pub(super) fn done(mut self) -> Vec<Vec<u8>> {
        if !self.current.is_empty() {
            self.cut();
        }
        self.messages
    }
}

fn keys(buffer: &mut Vec<u8>, key: &[u8], end: Option<&[u8]>) {
    nest(buffer, NFTA_SET_ELEM_KEY, |buffer| attribute(buffer, NFTA_DATA_VALUE, &[key]));
    if let Some(end) = end {
        nest(buffer, NFTA_SET_ELEM_KEY_END, |buffer| attribute(buffer, NFTA_DATA_VALUE, &[end]));
    }
}

fn verdict(buffer: &mut Vec<u8>, code: i32, chain: Option<&str>) {
    nest(buffer, NFTA_SET_ELEM_DATA, |buffer| {
        nest(buffer, NFTA_DATA_VERDICT, |buffer| {
            attribute(buffer, NFTA_VERDICT_CODE, &[&code.to_be_bytes()]);
            if let Some(chain) = chain {
                attribute(buffer, NFTA_VERDICT_CHAIN, &[chain.as_bytes(), &[0]]);
            }
        });
    });
}

fn nest(buffer: &mut Vec<u8>, kind: u16, write: impl FnOnce(&mut Vec<u8>)) {
    let start = buffer.len();
    header(buffer, kind | NESTED, 0);
    write(buffer);
    let len = (buffer.len() - start) as u16;
    if let Some(place) = buffer.get_mut(start..).and_then(|rest| rest.first_chunk_mut::<2>()) {
        *place = len.to_ne_bytes();
    }
}

fn attribute(buffer: &mut Vec<u8>, kind: u16, parts: &[&[u8]]) {
    let len: usize = parts.iter().map(|part| part.len()).sum();
    header(buffer, kind, len);
    parts.iter().for_each(|part| buffer.extend_from_slice(part));
    buffer.resize(buffer.len().next_multiple_of(4), 0);
}

fn header(buffer: &mut Vec<u8>, kind: u16, len: usize) {
    buffer.extend_from_slice(&((len + 4) as u16).to_ne_bytes());
    buffer.extend_from_slice(&kind.to_ne_bytes());
}

/// How many bytes an element takes, roughly and rather too many.
pub(super) fn weight(key: &Bytes, data: Option<&Data>, comment: Option<&str>) -> usize {
    let data = data.map_or(0, |data| match data {
        Data::Value(bytes) | Data::Until(bytes) => bytes.len() + 8,
        _ => 64,
    });
    2 * (key.len() + 12) + data + comment.map_or(0, |text| text.len() + 12)
}
