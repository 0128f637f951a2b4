job "cni" {
  group "g" {
    network {
      mode = "cni/mynet"
      cni {
        args = { A = "b" }
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
