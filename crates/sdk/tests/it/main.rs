//! The SDK as a service uses it: real requests through the layer, real calls over loopback.

mod calls;
mod protect;
