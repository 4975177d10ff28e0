/* A library without Execute. */
#ifdef _WIN32
__declspec(dllexport)
#endif
int execute(void) {
    return 1;
}
