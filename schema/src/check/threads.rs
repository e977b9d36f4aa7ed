//! Rules on threads for input and output.

use super::one::Report;
use crate::domain::Domain;
use crate::rule::Rule;
use std::collections::HashSet;
use std::fmt::Arguments;

/// Every rule on threads for input and output.
pub(super) fn check(domain: &Domain, r: &mut Report<'_>) {
    let mut ids = HashSet::new();
    let threads = domain.iothreadids.iter().flat_map(|ids| &ids.iothreads);
    for (i, thread) in threads.enumerate() {
        let path = format_args!("iothreadids/iothread[{}]", i + 1);
        if thread.id == Some(0) {
            r.report(
                Rule::IothreadId,
                format_args!("{path}/@id"),
                "threads are numbered from 1",
            );
        } else if thread.id.is_some_and(|id| !ids.insert(id)) {
            r.report(
                Rule::IothreadId,
                format_args!("{path}/@id"),
                "two threads have one number",
            );
        }
        workers(thread.thread_pool_min, thread.thread_pool_max, path, r);
    }
    if let Some(main) = &domain.defaultiothread {
        workers(
            main.thread_pool_min,
            main.thread_pool_max,
            format_args!("defaultiothread"),
            r,
        );
    }
}

fn workers(least: Option<u32>, most: Option<u32>, path: Arguments<'_>, r: &mut Report<'_>) {
    let complaint = match (least, most) {
        (_, Some(0)) => "a pool has at least one worker",
        (Some(least), Some(most)) if least > most => {
            "the least number of workers is above the greatest"
        }
        _ => return,
    };
    r.report(
        Rule::IothreadWorkers,
        format_args!("{path}/@thread_pool_max"),
        complaint,
    );
}
