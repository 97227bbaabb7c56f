//! What someone else changed is found: while the agent runs, and when one takes over.

use proptest::{prelude::*, strategy::ValueTree as _};
use shunt_ebpf::tables::ListWord;

use super::{
    super::{
        super::sys::{
            Hash, Word,
            fake::{Fake, State},
        },
        Audit, Tables,
    },
    world::{Allowed, ManualGrace, Step, World, check_no_leak, steps},
};

/// One way to spoil tables; does nothing where there is nothing to spoil.
type Tamper = fn(&mut State);

const WAYS: [(&str, Tamper); 7] = [
    ("a frontend deleted", |state| {
        first(state, Hash::Frontends4)
            .into_iter()
            .for_each(|key| state.erase(Hash::Frontends4, &key));
    }),
    ("a frontend's seal broken", |state| {
        if let Some(key) = first(state, Hash::Frontends6) {
            let mut value = state.lookup(Hash::Frontends6, &key).unwrap().to_vec();
            value[27] ^= 1;
            state.tamper(Hash::Frontends6, &key, &value);
        }
    }),
    ("a name made unreadable", |state| {
        if let Some(key) = first(state, Hash::Services) {
            state.tamper(Hash::Services, &key, &[0xff; 192]);
        }
    }),
    ("a name deleted", |state| {
        first(state, Hash::Services).into_iter().for_each(|key| state.erase(Hash::Services, &key));
    }),
    ("a list beyond the table", |state| {
        for word in runs(state).into_iter().take(1) {
            state.tamper_word(word, ListWord::Run { base: 5_000, count: 2 }.encode());
        }
    }),
    ("two lists with one run", |state| {
        if let [one, other, ..] = runs(state).as_slice() {
            state.tamper_word(*one, state.word(*other));
        }
    }),
    ("an epoch left odd", |state| state.tamper_word(Word::EPOCH, 7)),
];

fn first(state: &State, hash: Hash) -> Option<Vec<u8>> {
    state.hash(hash).keys().next().cloned()
}

/// The words of lists that name runs.
fn runs(state: &State) -> Vec<Word> {
    let lists = (1..64).map(Word::list);
    lists
        .filter(|word| matches!(ListWord::decode(state.word(*word)), ListWord::Run { .. }))
        .collect()
}

fn filled(steps: &[Step]) -> (Fake, World, Tables<Fake>) {
    let fake = Fake::new(&[]);
    let mut world = World::default();
    let mut tables = Tables::adopt(fake.clone(), ManualGrace::boxed(&fake), true).unwrap();
    for step in steps {
        assert!(tables.apply(&world.step(step)).is_success());
    }
    (fake, world, tables)
}

/// A take-over of spoilt tables shows no stranger, and the next Delta puts all right.
fn take_over(steps: &[Step], tamper: Tamper) {
    let (fake, world, tables) = filled(steps);
    drop(tables);
    tamper(&mut fake.state());
    fake.pass_grace();
    let mut tables = Tables::adopt(fake.clone(), ManualGrace::boxed(&fake), true).unwrap();
    assert_eq!(fake.state().word(Word::EPOCH) % 2, 0);
    let allowed = Allowed::default();
    allowed.only(&world.answers());
    allowed.also(&World::default().answers());
    allowed.check(&fake.state());
    assert!(tables.apply(&world.complete()).is_success());
    allowed.only(&world.answers());
    allowed.check(&fake.state());
    check_no_leak(&mut tables);
}

/// An audit of spoilt tables puts all right by itself.
fn audit(steps: &[Step], tamper: Tamper) -> bool {
    let (fake, world, mut tables) = filled(steps);
    assert_eq!(tables.audit().unwrap(), Audit::default(), "nothing is wrong yet");
    tamper(&mut fake.state());
    let found = tables.audit().unwrap() != Audit::default();
    let allowed = Allowed::default();
    allowed.only(&world.answers());
    allowed.check(&fake.state());
    assert_eq!(tables.audit().unwrap(), Audit::default(), "all is right again");
    found
}

#[test]
fn a_take_over_trusts_nothing() {
    proptest!(ProptestConfig::with_cases(40), |(steps in steps(8))| {
        for (_, tamper) in WAYS {
            take_over(&steps, tamper);
        }
    });
}

#[test]
fn an_audit_mends_what_others_changed() {
    let mut found = [0; WAYS.len()];
    for seed in 0..40 {
        let mut runner = proptest::test_runner::TestRunner::deterministic();
        let strategy = steps(8);
        let steps = (0..=seed).map(|_| strategy.new_tree(&mut runner).unwrap().current()).last();
        for (count, (_, tamper)) in found.iter_mut().zip(WAYS) {
            *count += usize::from(audit(steps.as_ref().unwrap(), tamper));
        }
    }
    // The epoch is the agent's own word and is not read back.
    for (count, (name, _)) in found.iter().zip(WAYS).take(6) {
        assert!(*count > 0, "{name} was never found");
    }
}
