//! Keeps a host equal to a directory of definitions.
//!
//! ```text
//! files ──► Desired ─┐
//!                    ├─► plan ──► execute ──► host
//! host ──► Inventory ┘                         │
//!   ▲                                          │
//!   └──────────────────────────────────────────┘
//! ```

pub mod api;
pub mod cli;
pub mod compile;
pub mod controller;
pub mod desired;
pub mod domain;
pub mod execute;
pub mod host;
pub mod import;
pub mod inventory;
pub mod ledger;
pub mod object;
mod pairs;
pub mod plan;
pub mod resolve;
pub mod source;
pub mod status;
pub mod units;
