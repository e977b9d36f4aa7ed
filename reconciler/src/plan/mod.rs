//! Planning: `plan(desired, inventory, ledger) -> Plan`, pure and deterministic.

pub mod step;
