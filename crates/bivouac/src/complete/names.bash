
# Names of what is there: asked of the program, which offers none that a shell could take for more than a word.
_bivouac_names() {
    _bivouac "$@"
    local names
    mapfile -t names < <("${COMP_WORDS[0]}" complete -- "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
    if [[ ${#names[@]} -gt 0 ]]; then
        COMPREPLY=("${names[@]}")
        if [[ "${names[0]}" == *: ]]; then
            compopt -o nospace
        fi
    fi
    return 0
}

complete -F _bivouac_names -o bashdefault -o default bivouac
