job "checks" {
  group "g" {
    network {
      port "tcp" {}
    }
    task "t" {
      driver = "exec"
      config {
        command = "/bin/sleep"
        args    = ["9"]
      }
      service {
        name     = "t"
        port     = "tcp"
        provider = "nomad"
        tags     = ["a", "b-${NOMAD_ALLOC_INDEX}"]
        check {
          type     = "tcp"
          interval = "5s"
          timeout  = "1s"
        }
        check {
          name     = "alive"
          type     = "script"
          command  = "/bin/true"
          args     = ["-x"]
          interval = "5s"
          timeout  = "1s"
        }
      }
    }
  }
}
