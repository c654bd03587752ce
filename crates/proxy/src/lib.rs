//! The L7 data plane: an xDS client that carries traffic by weight
