//! What all services of one process share: the engine, its settings, and the tasks.

use crate::events::Hub;
use crate::face::{Engine, HostFacts};
use crate::name::DriverName;
use crate::settings::Settings;
use crate::status;
use crate::tasks::Tasks;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use tonic::Status;

/// One driver: the engine behind it and what the client said so far.
pub(crate) struct Shared {
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) name: DriverName,
    pub(crate) tasks: Tasks,
    pub(crate) events: Arc<Hub>,
    configured: Mutex<(Settings, HostFacts)>,
}

impl Shared {
    pub(crate) fn new(engine: Arc<dyn Engine>, name: DriverName) -> Arc<Self> {
        let events = Arc::new(Hub::default());
        let hub = Arc::clone(&events);
        engine.report_events_to(Box::new(move |event| hub.publish(event)));
        Arc::new(Self { engine, name, tasks: Tasks::default(), events, configured: Mutex::default() })
    }

    /// Runs engine work on the pool of threads. It goes on to its end if the caller goes away.
    pub(crate) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&dyn Engine) -> T + Send + 'static,
    ) -> Result<T, Status> {
        let engine = Arc::clone(&self.engine);
        tokio::task::spawn_blocking(move || work(&*engine)).await.map_err(status::failed)
    }

    pub(crate) fn configured(&self) -> (Settings, HostFacts) {
        self.configured.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn configure(&self, settings: Settings, host: HostFacts) {
        *self.configured.lock().unwrap_or_else(PoisonError::into_inner) = (settings, host);
    }

    /// The environment of a task: the client's, and this process's where the client left it out.
    pub(crate) fn environment(&self, task: BTreeMap<String, String>) -> BTreeMap<String, String> {
        let (settings, _) = self.configured();
        if !settings.adds_host_environment() {
            return task;
        }
        // Names and values that are no text cannot stand in a message either: the client drops them too.
        let own =
            std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)));
        crate::environment::merge(&crate::environment::of_host(own, &settings.denylist), task)
    }
}
