
# Names of what is there: asked of the program, which offers none that a shell could take for more than a word.
_bivouac_names() {
    local -a names
    names=(${(f)"$("${(Q)words[1]}" complete -- "${(@Q)words[2,CURRENT-1]}" "$PREFIX" 2>/dev/null)"})
    if (( ! $#names )); then
        _bivouac "$@"
    elif [[ "$names[1]" == *: ]]; then
        compadd -S '' -- "${names[@]}"
    else
        compadd -- "${names[@]}"
    fi
}

compdef _bivouac_names bivouac
if [ "$funcstack[1]" = "_bivouac" ]; then
    _bivouac_names "$@"
fi
