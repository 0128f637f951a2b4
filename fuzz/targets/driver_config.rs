//! A `config` block as an agent sends it, MessagePack, through the face into the driver: a configuration or a
//! sentence. The same for the operator's block.
#![no_main]

use bivouac_driver::config::{OperatorConfig, TaskConfig};
use bivouac_driver::lookup::{self, Scene};
use bivouac_driver::options::{OPERATOR, TASK};
use bivouac_plugin::decode_config;
use bivouac_plugin::driver_options::{from_driver, to_driver};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    match decode_config(bytes, &from_driver(TASK)).map(|values| TaskConfig::decode(&to_driver(&values))) {
        Ok(Ok(config)) => {
            let found = lookup::candidates(&config.command, &Scene { entries: &[], mounts: &[] });
            let can_be_found =
                !config.command.contains('\0') && !config.command.split('/').any(|part| part == "..");
            assert!(can_be_found || found.is_err(), "{:?}", config.command);
        }
        Ok(Err(refused)) => assert!(!refused.to_string().is_empty()),
        Err(error) => assert!(error.to_string().len() < 2000, "a sentence, not an echo"),
    }
    if let Ok(values) = decode_config(bytes, &from_driver(OPERATOR)) {
        let _ = OperatorConfig::decode(&to_driver(&values));
    }
});
