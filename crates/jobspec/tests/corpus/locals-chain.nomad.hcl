locals {
  c = "${local.b}c"
  a = "a"
  b = "${local.a}b"
  all = {
    list = [local.a, local.b, local.c]
    deep = { x = local.c }
  }
}
job "locals-chain" {
  meta {
    c    = local.c
    deep = local.all.deep.x
    last = local.all.list[2]
    n    = length(local.all.list)
  }
  group "g" {
    task "t" {
      driver = "exec"
      config {
        command = "/bin/true"
      }
    }
  }
}
