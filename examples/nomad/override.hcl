# A Nomad client on which every job with `driver = "exec"` runs in Bivouac: plugin_dir holds a link `exec -> bivouac`.
plugin_dir = "/opt/nomad/plugins"

plugin "exec" {
  config {
    # The options of the built-in driver keep their names and meaning.
    default_pid_mode = "private"
    denied_host_uids = "1-99"
    log_collection   = "bivouac"
  }
}
