# A Nomad client with Bivouac beside the built-in drivers. Copy `bivouac` and `bivouac-shim` into plugin_dir.
plugin_dir = "/opt/nomad/plugins"

plugin "bivouac" {
  config {
    # Everything here may be left out; these are examples of what operators set.
    allow_caps         = ["chown", "fowner", "kill", "net_bind_service", "setgid", "setuid"]
    default_pids_limit = 1000
    max_pids_limit     = 5000
    allow_mount_paths  = ["/srv/shared:ro"]
  }
}
