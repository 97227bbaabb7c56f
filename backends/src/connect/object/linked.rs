//! The programs, linked to their maps.

use std::{
    collections::BTreeMap,
    os::fd::{AsFd as _, OwnedFd},
};

use aya_obj::generated::bpf_insn;

use super::{
    super::{
        hook::Hook,
        sys::{self, ProgramSpec},
    },
    ObjectError,
};

/// The object with its maps and types in the kernel.
pub(in super::super) struct Linked {
    /// Its programs name the maps by their descriptors.
    pub(super) object: aya_obj::Object,
    /// The types, in the kernel.
    pub(super) types: OwnedFd,
    /// What keeps the descriptors open, by name.
    pub(super) maps: BTreeMap<String, OwnedFd>,
}

impl Linked {
    /// Brings the program for a hook into the kernel.
    ///
    /// # Errors
    ///
    /// Fails if there is none, or the kernel refuses it.
    pub(in super::super) fn load(&self, hook: Hook) -> Result<OwnedFd, ObjectError> {
        let name = hook.program;
        let absent = || ObjectError::NoProgram(name);
        let program = self.object.programs.get(name).ok_or_else(absent)?;
        let main = self.object.functions.get(&program.function_key()).ok_or_else(absent)?;
        let code: Vec<u64> = main.instructions.iter().map(instruction).collect();
        sys::load_program(&ProgramSpec {
            kind: hook.kind as u32,
            attach_type: hook.attach_type,
            name,
            license: &program.license,
            code: &code,
            types: self.types.as_fd(),
            functions: &main.func_info.func_info_bytes(),
            lines: &main.line_info.line_info_bytes(),
        })
        .map_err(|cause| ObjectError::Program { program: name, cause })
    }
}

impl From<Linked> for BTreeMap<String, OwnedFd> {
    /// The maps by their names.
    fn from(linked: Linked) -> Self {
        linked.maps
    }
}

fn instruction(instruction: &bpf_insn) -> u64 {
    let bpf_insn { code, off, imm, .. } = *instruction;
    sys::instruction(code, instruction.dst_reg(), instruction.src_reg(), off, imm)
}
