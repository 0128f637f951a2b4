job "limits" {
  group "g" {
    task "t" {
      driver       = "exec"
      kill_signal  = "SIGINT"
      kill_timeout = "20s"
      config {
        command   = "/bin/sleep"
        args      = ["60"]
        ulimit    = { nofile = "1024:2048" }
        pids_limit = 64
      }
      resources {
        cores      = 2
        memory     = 64
        memory_max = 256
      }
      logs {
        max_files     = 2
        max_file_size = 5
      }
    }
  }
}
