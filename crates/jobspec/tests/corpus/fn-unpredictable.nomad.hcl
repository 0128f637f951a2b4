# Functions whose results differ from run to run or place to place, by what is always true of them.
job "fn-unpredictable" {
  type = "batch"

  meta {
    absolute = basename(abspath("some/name"))
    home     = pathexpand("/no/tilde")
    uuid     = strlen(uuidv4())
    hash     = substr(bcrypt("a password", 4), 0, 4)
    same     = uuidv4() == uuidv4()
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
