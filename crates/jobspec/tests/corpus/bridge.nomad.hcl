job "bridge" {
  group "g" {
    network {
      mode     = "bridge"
      hostname = "box"
      port "http" {
        static = 80
        to     = 8080
      }
      port "admin" {
        to = -1
      }
      dns {
        servers  = ["1.1.1.1", "::1"]
        searches = ["example.test"]
      }
    }
    task "t" {
      driver = "exec"
      config {
        command = "/bin/true"
      }
    }
  }
}
