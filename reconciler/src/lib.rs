//! Desired state against actual state: plan, converge, repair.
