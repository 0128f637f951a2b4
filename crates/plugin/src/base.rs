//! The base service: who this plugin is, how it is configured, and taking a configuration.

use crate::face::{Engine, Purpose};
use crate::options::{Opt, Values, face_operator_options};
use crate::settings::Settings;
use crate::shared::Shared;
use crate::wire::base as pb;
use crate::{convert, msgpack, schema, status};
use std::sync::Arc;
use tonic::{Request, Response, Status};

/// The driver interface that we implement; the only one the client ever knew.
const API_VERSION: &str = "v0.1.0";

/// Our own version. A built-in driver of the same name gives way to an equal or greater one than 0.1.0,
/// and never to a pre-release.
const VERSION: &str = env!("CARGO_PKG_VERSION");

pub(crate) struct Base(pub(crate) Arc<Shared>);

/// All options of the plugin's `config` block.
pub(crate) fn operator_options(engine: &dyn Engine) -> Vec<Opt> {
    let mut options = engine.operator_options();
    options.extend(face_operator_options());
    options
}

/// A `config` block as the client sends it: the face's settings, and the values that are the engine's.
fn understand(engine: &dyn Engine, config: &[u8]) -> Result<(Settings, Values), String> {
    let mut values = msgpack::decode(config, &operator_options(engine)).map_err(|error| error.to_string())?;
    let settings =
        Settings::read(&values.split_off(&face_operator_options())).map_err(|error| error.to_string())?;
    Ok((settings, values))
}

/// Tries a configuration out, with no effect.
///
/// # Errors
/// What `SetConfig` would refuse it with.
pub(crate) fn check(engine: &dyn Engine, config: &[u8]) -> Result<Settings, String> {
    let (settings, values) = understand(engine, config)?;
    engine.configure(&values, &Purpose::Check).map_err(|error| error.to_string())?;
    Ok(settings)
}

#[tonic::async_trait]
impl pb::base_plugin_server::BasePlugin for Base {
    async fn plugin_info(
        &self,
        _: Request<pb::PluginInfoRequest>,
    ) -> Result<Response<pb::PluginInfoResponse>, Status> {
        Ok(Response::new(pb::PluginInfoResponse {
            r#type: pb::PluginType::Driver.into(),
            plugin_api_versions: vec![API_VERSION.to_owned()],
            plugin_version: VERSION.to_owned(),
            name: self.0.name.as_str().to_owned(),
        }))
    }

    async fn config_schema(
        &self,
        _: Request<pb::ConfigSchemaRequest>,
    ) -> Result<Response<pb::ConfigSchemaResponse>, Status> {
        Ok(Response::new(pb::ConfigSchemaResponse {
            spec: Some(schema::of_block(&operator_options(&*self.0.engine))),
        }))
    }

    async fn set_config(
        &self,
        request: Request<pb::SetConfigRequest>,
    ) -> Result<Response<pb::SetConfigResponse>, Status> {
        let request = request.into_inner();
        if !matches!(request.plugin_api_version.as_str(), "" | API_VERSION) {
            let wanted = request.plugin_api_version;
            return Err(status::invalid(format_args!(
                "driver interface {wanted:?}: this plugin has {API_VERSION}"
            )));
        }
        let (settings, values) =
            understand(&*self.0.engine, &request.msgpack_config).map_err(status::failed)?;
        // Only the launch that will serve is told about the host.
        let driver = request.nomad_config.and_then(|nomad| nomad.driver);
        let host = driver.as_ref().map(|driver| convert::host_facts(driver.topology.as_ref()));
        let purpose = host.clone().map_or(Purpose::Check, Purpose::Serve);
        self.0.blocking(move |engine| engine.configure(&values, &purpose)).await??;
        self.0.configure(settings, host.unwrap_or_default());
        Ok(Response::new(pb::SetConfigResponse {}))
    }
}
