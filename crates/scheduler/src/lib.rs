//! Filter, score, plan, check: where instances go, and why not elsewhere
