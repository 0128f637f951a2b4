job "batch-params" {
  type = "batch"
  parameterized {
    payload       = "required"
    meta_required = ["user"]
    meta_optional = ["mode"]
  }
  group "g" {
    task "t" {
      driver = "exec"
      dispatch_payload {
        file = "in.json"
      }
      config {
        command = "/bin/cat"
        args    = ["local/in.json", "${NOMAD_META_user}"]
      }
    }
  }
}
