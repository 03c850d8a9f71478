/* Importing a build as a Python module says why that is no use. Python.h is left out on purpose:
   without it the kernels compile where Python's headers are not installed. */

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
