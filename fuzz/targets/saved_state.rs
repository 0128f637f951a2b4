//! What lies on a disk between two lives of a face: handles, records, status files. Damaged ones are errors; what is
//! read is written the same.
#![no_main]

use bivouac_driver::engine::{Handle, Record};
use bivouac_shim::status::Status;
use libfuzzer_sys::fuzz_target;
use serde::Serialize;
use serde::de::DeserializeOwned;

fn stable<T: Serialize + DeserializeOwned>(bytes: &[u8]) {
    let Ok(value) = serde_json::from_slice::<T>(bytes) else { return };
    let text = serde_json::to_vec(&value).expect("what was read can be written");
    let again: T = serde_json::from_slice(&text).expect("what was written can be read");
    assert_eq!(serde_json::to_vec(&again).expect("again"), text, "writing is stable");
}

fuzz_target!(|bytes: &[u8]| {
    stable::<Handle>(bytes);
    stable::<Record>(bytes);
    stable::<Status>(bytes);
    bivouac_plugin::fuzzing::read_handle(bytes);
});
