job "caps" {
  group "g" {
    task "t" {
      driver = "exec"
      config {
        command  = "/bin/ping"
        cap_add  = ["net_raw"]
        cap_drop = ["mknod"]
        pid_mode = "host"
        ipc_mode = "private"
        work_dir = "/tmp"
      }
    }
  }
}
