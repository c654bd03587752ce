//! Open-loop load generator, free of coordinated omission
