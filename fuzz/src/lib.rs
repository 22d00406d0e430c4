//! What the fuzz targets of the devices share: a guest whose every step is a
//! value that the fuzzer makes up.

pub mod guest;
pub mod kernel;
