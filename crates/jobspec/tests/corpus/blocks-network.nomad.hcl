job "blocks-network" {
  group "g" {
    network {
      mode = "bridge"
      port "http" {
        static = 8080
        to     = 80
      }
      port "any" {}
      port "same" {
        to = -1
      }
      dns {
        servers  = ["1.1.1.1", "9.9.9.9"]
        searches = ["example.com"]
        options  = ["ndots:2"]
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
