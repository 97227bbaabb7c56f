//! The probe process of worlds that benchmarks and tests make.

fn main() -> anyhow::Result<()> {
    shunt_harness::probe::run()
}
