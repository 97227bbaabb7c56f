//! bpf(2): programs and their types on the way into the kernel, and what the verifier says to them.

use std::{
    ffi::CStr,
    io,
    os::fd::{AsRawFd as _, BorrowedFd, OwnedFd},
};

use super::bpf::{bpf_fd, object_name};

const PROG_LOAD: u32 = 5;
const BTF_LOAD: u32 = 18;

/// `BPF_PROG_TYPE_CGROUP_SOCK_ADDR`.
const SOCK_ADDR: u32 = 18;

/// `struct bpf_func_info`: an instruction and the type of the function that begins there.
const FUNCTION: usize = 8;
/// `struct bpf_line_info`: an instruction, and where in the source it comes from.
const LINE: usize = 16;

/// `BPF_LOG_LEVEL1 | BPF_LOG_STATS`: the way to what the verifier does not like, and its counts.
const LOG_LEVEL: u32 = 1 | 4;
/// How much room the verifier's words get, one after the other. The last is all that Linux takes
/// before 5.11.
const LOG_SIZES: [usize; 3] = [64 * 1024, 1024 * 1024, (u32::MAX >> 8) as usize];

/// The kernel refuses a program, or types.
#[derive(Debug, thiserror::Error)]
#[error("{}", heading(words))]
pub(in super::super) struct Refused {
    words: String,
    #[source]
    cause: io::Error,
}

fn heading(words: &str) -> String {
    match words {
        "" => "without a word of the verifier".to_owned(),
        words => format!("the verifier: {words}"),
    }
}

impl From<Refused> for io::Error {
    /// Leaves the verifier's words out.
    fn from(refused: Refused) -> Self {
        refused.cause
    }
}

/// One instruction: opcode, destination and source register, offset, immediate value.
pub(in super::super) const fn instruction(
    code: u8,
    to: u8,
    from: u8,
    offset: i16,
    value: i32,
) -> u64 {
    code as u64
        | (to as u64) << 8
        | (from as u64) << 12
        | (offset as u16 as u64) << 16
        | (value as u32 as u64) << 32
}

/// A program for the kernel.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct ProgramSpec<'a> {
    /// `enum bpf_prog_type`.
    pub(in super::super) kind: u32,
    /// `enum bpf_attach_type`: the hook that it is for.
    pub(in super::super) attach_type: u32,
    /// For people.
    pub(in super::super) name: &'a str,
    /// Some helpers are for programs under the GPL only.
    pub(in super::super) license: &'a CStr,
    /// The instructions, with the descriptors of maps in them.
    pub(in super::super) code: &'a [u64],
    /// The BTF object that functions and lines speak of.
    pub(in super::super) types: BorrowedFd<'a>,
    /// An array of `struct bpf_func_info`.
    pub(in super::super) functions: &'a [u8],
    /// An array of `struct bpf_line_info`.
    pub(in super::super) lines: &'a [u8],
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Load {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; 16],
    prog_ifindex: u32,
    expected_attach_type: u32,
    prog_btf_fd: u32,
    func_info_rec_size: u32,
    func_info: u64,
    func_info_cnt: u32,
    line_info_rec_size: u32,
    line_info: u64,
    line_info_cnt: u32,
    attach_btf_id: u32,
}

/// Loads a program.
///
/// # Errors
///
/// Fails if the kernel refuses it, with the verifier's words.
pub(in super::super) fn load_program(program: &ProgramSpec<'_>) -> Result<OwnedFd, Refused> {
    let attr = Load {
        prog_type: program.kind,
        insn_cnt: program.code.len() as u32,
        insns: program.code.as_ptr() as u64,
        license: program.license.as_ptr() as u64,
        prog_name: object_name(program.name),
        expected_attach_type: program.attach_type,
        prog_btf_fd: program.types.as_raw_fd() as u32,
        func_info_rec_size: FUNCTION as u32,
        func_info: program.functions.as_ptr() as u64,
        func_info_cnt: (program.functions.len() / FUNCTION) as u32,
        line_info_rec_size: LINE as u32,
        line_info: program.lines.as_ptr() as u64,
        line_info_cnt: (program.lines.len() / LINE) as u32,
        ..Load::default()
    };
    with_words(|log| {
        let mut attr = Load {
            log_level: if log.is_empty() { 0 } else { LOG_LEVEL },
            log_size: log.len() as u32,
            log_buf: address(log),
            ..attr
        };
        // SAFETY: everything that is named is borrowed by `program` and only read, functions and
        // lines for whole records; the log is writable for `log_size` bytes. All outlive the call.
        unsafe { bpf_fd(PROG_LOAD, &mut attr) }
    })
}

/// Loads a program of bare instructions.
///
/// # Errors
///
/// Fails if the kernel refuses it; why, only its error number says.
pub(in super::super) fn load_bare(
    kind: u32,
    attach_type: u32,
    code: &[u64],
) -> io::Result<OwnedFd> {
    let mut attr = Load {
        prog_type: kind,
        insn_cnt: code.len() as u32,
        insns: code.as_ptr() as u64,
        license: c"GPL".as_ptr() as u64,
        expected_attach_type: attach_type,
        ..Load::default()
    };
    // SAFETY: instructions and license outlive the call, and the kernel only reads them.
    unsafe { bpf_fd(PROG_LOAD, &mut attr) }
}

/// As [`load_bare`], for cgroup `sock_addr` programs.
///
/// # Errors
///
/// As [`load_bare`].
pub(in super::super) fn load_sock_addr(attach_type: u32, code: &[u64]) -> io::Result<OwnedFd> {
    load_bare(SOCK_ADDR, attach_type, code)
}

#[repr(C)]
#[derive(Default)]
struct Btf {
    btf: u64,
    log_buf: u64,
    btf_size: u32,
    log_size: u32,
    log_level: u32,
    reserved: u32,
}

/// Loads type information.
///
/// # Errors
///
/// Fails if the kernel refuses it, with the verifier's words.
pub(in super::super) fn load_btf(btf: &[u8]) -> Result<OwnedFd, Refused> {
    with_words(|log| {
        let mut attr = Btf {
            btf: btf.as_ptr() as u64,
            btf_size: btf.len() as u32,
            log_level: if log.is_empty() { 0 } else { LOG_LEVEL },
            log_size: log.len() as u32,
            log_buf: address(log),
            ..Btf::default()
        };
        // SAFETY: `btf` is readable for `btf_size` bytes and the log writable for `log_size`; both
        // outlive the call.
        unsafe { bpf_fd(BTF_LOAD, &mut attr) }
    })
}

/// The address of a log; 0 of none, as the kernel wants it.
fn address(log: &mut [u8]) -> u64 {
    if log.is_empty() { 0 } else { log.as_mut_ptr() as u64 }
}

/// Loads something without a log, for the verifier is faster so, and where that fails again with
/// one that is large enough.
fn with_words(load: impl Fn(&mut [u8]) -> io::Result<OwnedFd>) -> Result<OwnedFd, Refused> {
    let mut log = Vec::new();
    let mut result = load(&mut log);
    for size in LOG_SIZES {
        match &result {
            Ok(_) => break,
            Err(cause) if log.is_empty() || cause.raw_os_error() == Some(libc::ENOSPC) => {
                log = vec![0; size];
                result = load(&mut log);
            }
            Err(_) => break,
        }
    }
    result.map_err(|cause| {
        let words = log.split(|byte| *byte == 0).next().unwrap_or_default();
        Refused { words: String::from_utf8_lossy(words).trim_end().to_owned(), cause }
    })
}

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, error::Error as _, fs::File};

    use super::*;

    /// The sizes of logs with which a load is tried that needs `room` for its words, and what
    /// comes of it; it succeeds from the try on that `succeeds` says.
    fn tries(room: usize, succeeds: usize) -> (Vec<usize>, Result<OwnedFd, Refused>) {
        let sizes = RefCell::new(Vec::new());
        let result = with_words(|log| {
            sizes.borrow_mut().push(log.len());
            if sizes.borrow().len() > succeeds {
                return Ok(File::open("/dev/null")?.into());
            }
            let words = b"R5 !read_ok\nprocessed 1 insns\n\0rest";
            log.iter_mut().zip(words).for_each(|(log, word)| *log = *word);
            let number =
                if !log.is_empty() && log.len() < room { libc::ENOSPC } else { libc::EACCES };
            Err(io::Error::from_raw_os_error(number))
        });
        (sizes.into_inner(), result)
    }

    #[test]
    fn a_log_is_asked_for_after_a_refusal_and_again_where_it_was_too_small() {
        let [small, larger, largest] = LOG_SIZES;
        for (room, expected) in [
            (0, vec![0, small]),
            (small + 1, vec![0, small, larger]),
            (larger + 1, vec![0, small, larger, largest]),
            (largest + 1, vec![0, small, larger, largest]),
        ] {
            let (sizes, result) = tries(room, usize::MAX);
            assert_eq!(sizes, expected);
            let refused = result.unwrap_err();
            assert_eq!(refused.to_string(), "the verifier: R5 !read_ok\nprocessed 1 insns");
            let number = if room > largest { libc::ENOSPC } else { libc::EACCES };
            let cause = refused.source().unwrap().to_string();
            assert_eq!(cause, io::Error::from_raw_os_error(number).to_string());
        }
        assert_eq!(tries(0, 0).0, [0]);
        // The kernel gives up a verification for a signal (EAGAIN): the next one succeeds.
        let (sizes, result) = tries(0, 1);
        assert!(result.is_ok());
        assert_eq!(sizes, [0, small]);
    }

    #[test]
    fn a_refusal_without_words_says_so() {
        let refused = with_words(|_| Err(io::Error::from_raw_os_error(libc::EPERM))).unwrap_err();
        assert_eq!(refused.to_string(), "without a word of the verifier");
        assert_eq!(io::Error::from(refused).raw_os_error(), Some(libc::EPERM));
    }
}
