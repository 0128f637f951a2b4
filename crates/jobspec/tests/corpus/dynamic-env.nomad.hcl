locals {
  env = { A = "1", B = "2" }
}
job "dynamic-env" {
  group "g" {
    task "t" {
      driver = "exec"
      env    = merge(local.env, { C = "${local.env.A}3" })
      config {
        command = "/bin/echo"
        args    = concat(["x"], [for k, v in local.env : "${k}=${v}"])
      }
    }
  }
}
