job "driver-options" {
  group "g" {
    task "t" {
      driver = "exec"
      config {
        command  = "/bin/sh"
        args     = ["-c", "id"]
        work_dir = "/local"
        pid_mode = "host"
        ipc_mode = "private"
        cap_add  = ["net_bind_service"]
        cap_drop = ["all"]
      }
    }
  }
}
