# Which of the things that are built once a run needs. Sets: qemu, image, archive, kernel.

prepare_parts() {
    local recipes=$here/lib
    cached image "$recipes"/{debian,image}.sh "$here/inside/init"
    image=$made
    archive=$image/base.cpio
    if [ "${layers[*]}" = openmpi ]; then
        cached openmpi "$recipes"/{debian,image,openmpi}.sh "$here/inside/init"
        archive=$made/all.cpio
    fi
    if [ "$place" = uml ]; then
        cached uml "$recipes"/{debian,uml}.sh "$recipes/uml.config"
        kernel=$made/linux
    else
        cached qemu "$recipes"/{debian,qemu}.sh
        qemu=$made
        kernel=$image/vmlinux
    fi
}
