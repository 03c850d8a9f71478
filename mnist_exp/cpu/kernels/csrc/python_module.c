/* Importing a build as a Python module raises an error that explains how to use it. Python.h is left
   out so that the kernels compile without Python's headers. */

extern __attribute__((weak)) void *PyExc_ImportError;
extern __attribute__((weak)) void PyErr_SetString(void *type, const char *message);

#ifdef __AVX512F__
#define MODULE PyInit__avx512
#else
#define MODULE PyInit__avx2
#endif
void *MODULE(void);

void *MODULE(void) {
    PyErr_SetString(PyExc_ImportError, "this is not a Python module but a library that ctypes loads; "
                                       "mnist_exp.cpu.kernels.kernels_for returns its functions");
    return 0;
}
